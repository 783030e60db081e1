"""Networks of several folds in files, and the search that they make together."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from landmarkflow.learning.weights import load_weights, save_weights
from landmarkflow.methods.zoomin.find import Finder, Pair
from landmarkflow.methods.zoomin.network import Coarse, Zoom
from landmarkflow.methods.zoomin.prepare import CONTRASTS
from landmarkflow.methods.zoomin.settings import BranchSettings, TrainSettings, ZoomSettings
from landmarkflow.methods.zoomin.shape import Shape

COARSE, ZOOM = "coarse", "zoom"


def new_coarse(train: TrainSettings, colours: int, landmarks: int) -> Coarse:
    """The coarse branch with its first weights."""
    return Coarse(colours + CONTRASTS, landmarks, train.coarse, train.precision)


def new_zoom(train: TrainSettings, colours: int, landmarks: int) -> Zoom:
    """The branch of the regions with its first weights."""
    return Zoom(colours + CONTRASTS, landmarks, train.coarse.widths[0], train)


def new_pair(train: TrainSettings, colours: int, landmarks: int) -> nn.ModuleDict:
    """Both."""
    return nn.ModuleDict(
        {
            COARSE: new_coarse(train, colours, landmarks),
            ZOOM: new_zoom(train, colours, landmarks),
        }
    )


def architecture(train: TrainSettings, colours: int, landmarks: Sequence[str]) -> dict[str, object]:
    """What decides which weights there are, and what they mean."""
    return {
        **coarse_architecture(train, colours, landmarks),
        ZOOM: _branch(train.regions),
        "fields": list(train.regions.fields),
        "parts": train.parts.model_dump(mode="json"),
    }


def coarse_architecture(
    train: TrainSettings, colours: int, landmarks: Sequence[str]
) -> dict[str, object]:
    """The same of the coarse branch alone."""
    return {COARSE: _branch(train.coarse), "colours": colours, "landmarks": list(landmarks)}


def _branch(settings: BranchSettings) -> dict[str, object]:
    return {"size": settings.size, "stem": settings.stem, "widths": list(settings.widths)}


def save_networks(
    path: Path, networks: Mapping[str, nn.Module], description: Mapping[str, object]
) -> None:
    """Write the networks of several folds in one file, with their architecture."""
    together = {"network": {**description, "networks": list(networks)}}
    save_weights(path, nn.ModuleDict(dict(networks)), together)


def load_coarse(
    path: Path, name: str, train: TrainSettings, colours: int, landmarks: Sequence[str]
) -> Coarse:
    """Read the coarse branch of a fold in evaluation mode.

    Raises:
        InputError: the file is missing, damaged, or of another network.
    """
    network = new_coarse(train, colours, len(landmarks))
    expected = {**coarse_architecture(train, colours, landmarks), "networks": [name]}
    load_weights(path, nn.ModuleDict({name: network}), expected)
    return network.eval()


def load_pairs(
    path: Path,
    names: Sequence[str],
    *,
    train: TrainSettings,
    colours: int,
    landmarks: Sequence[str],
    device: torch.device,
) -> dict[str, Pair]:
    """Read the networks of several folds in evaluation mode.

    Raises:
        InputError: the file is missing, damaged, or of other networks.
    """
    both = {name: new_pair(train, colours, len(landmarks)) for name in names}
    expected = {**architecture(train, colours, landmarks), "networks": list(names)}
    load_weights(path, nn.ModuleDict(both), expected)
    return {name: pair_of(modules, device) for name, modules in both.items()}


def pair_of(modules: nn.ModuleDict, device: torch.device) -> Pair:
    """Networks as they are searched with."""
    modules.to(device).eval()
    modules.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    coarse, zoom = modules[COARSE], modules[ZOOM]
    assert isinstance(coarse, Coarse) and isinstance(zoom, Zoom)
    return Pair(coarse, zoom)


def finder_of(
    pairs: Mapping[str, Pair],
    train: TrainSettings,
    zoom: ZoomSettings,
    device: torch.device,
    shape: Shape,
) -> Finder:
    """The search by the networks of some folds."""
    return Finder(list(pairs.values()), train, zoom, device, shape)
