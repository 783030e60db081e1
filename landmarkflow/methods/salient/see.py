"""Look at a picture with networks."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landmarkflow.methods.salient.frames import Frame
from landmarkflow.methods.salient.maps import Seen
from landmarkflow.methods.salient.network import SaliencyNetwork


def places_of(frames: Sequence[Frame], theta: Tensor) -> Tensor:
    """(n, 2, rows, columns) where each cell of a map lies in its picture, as shares.

    Args:
        frames: of the pictures.
        theta: (n, 2, 3) from normalised places of the map to those of the input, as torch has it.
    """
    first = frames[0]
    rows, columns = first.input_height // first.stride, first.input_width // first.stride
    grid = torch.nn.functional.affine_grid(
        theta, [len(frames), 1, rows, columns], align_corners=False
    )
    extent = torch.tensor([frame.extent for frame in frames], dtype=grid.dtype)
    return ((grid + 1) / 2 / extent[:, None, None]).permute(0, 3, 1, 2)


def see(
    networks: Sequence[SaliencyNetwork],
    frame: Frame,
    picture: NDArray[np.uint8],
    device: torch.device,
    *,
    mirror: bool,
) -> Seen:
    """Predict a picture's map, the mean of all networks and, if asked for, of its mirror image.

    The mirrored features are laid back and averaged: a structure has the same features on either
    side.

    Args:
        networks: in evaluation mode.
        frame: of the picture.
        picture: (3, height, width) uint8, fitted into the input.
        device: where the networks are.
        mirror: whether the mirror image is looked at, too.
    """
    shown = torch.from_numpy(picture.copy())[None].float() / 255
    where = places_of([frame], torch.eye(3)[None, :2])
    total: Tensor | None = None
    features: list[Tensor] = []
    views = [(shown, where)]
    if mirror:
        # Of a picture that does not fill its input, the mirror image lies at the right.
        turned = where.flip(3) * torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1)
        views.append((shown.flip(3), turned + torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)))
    with torch.inference_mode():
        for number, network in enumerate(networks):
            for place, (view, at) in enumerate(views):
                logits, levels = network(view.to(device), at.to(device))
                found = torch.softmax(logits.double().flatten(), 0).view(logits.shape[1:])
                found = found.flip(1) if place else found
                total = found if total is None else total + found
                if number == 0:
                    levels = [level.float().flip(3) if place else level.float() for level in levels]
                    features = [
                        a + b for a, b in zip(features or [torch.zeros(())] * len(levels), levels, strict=True)
                    ]
    assert total is not None
    rows, columns = frame.cells
    kept = total[:rows, :columns].cpu().numpy()
    means = tuple((level[0] / len(views)).cpu().numpy() for level in features)
    return Seen((kept / kept.sum()).astype(np.float32), means)
