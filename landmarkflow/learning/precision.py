"""The numbers that networks compute with: float32, or bfloat16 where a processor is fast at it."""

from contextlib import AbstractContextManager
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def uses_bfloat16(device: torch.device, precision: Precision) -> bool:
    """Whether convolutions compute in bfloat16; `auto` is where device or processor has it."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Without instructions of its own a processor takes several times as long as for float32.
    return bool(torch.cpu._is_avx512_bf16_supported())


def computing(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """The context in which a network computes in this precision; its weights stay float32."""
    enabled = uses_bfloat16(device, precision)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
