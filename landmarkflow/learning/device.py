"""The device that networks run on."""

import torch


def best_device() -> torch.device:
    """CUDA when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """Name of a GPU as its driver has it, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
