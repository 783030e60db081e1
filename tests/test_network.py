import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from landmarkflow.core.errors import InputError
from landmarkflow.methods.oneshot.network import (
    UNet,
    folded,
    load_network,
    predict_slices,
    save_network,
)
from landmarkflow.methods.oneshot.settings import NetworkSettings

CPU = torch.device("cpu")
# The paper's network: 100 pixels, 64 channels, two levels of four convolutions each.
PAPER = NetworkSettings(
    window_pixels=100, channels=64, levels=2, convolutions=4, batch_norm=False, dropout=0.5
)
SMALL = NetworkSettings(window_pixels=16, channels=4, levels=3)
TARGET_MM3 = 123.456


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def network(settings: NetworkSettings = SMALL, seed: int = 0) -> UNet:
    torch.manual_seed(seed)
    return UNet(settings)


def slices(count: int, pixels: int = SMALL.window_pixels) -> np.ndarray:
    return np.random.default_rng(0).random((count, pixels, pixels), dtype=np.float32)


@pytest.mark.parametrize("settings", [NetworkSettings(), PAPER], ids=["default", "paper"])
def test_each_pixel_gets_one_logit(settings: NetworkSettings) -> None:
    pixels = settings.window_pixels
    with torch.inference_mode():
        logits = network(settings).eval()(torch.from_numpy(slices(2, pixels))[:, None])
    assert logits.shape == (2, 1, pixels, pixels)
    assert torch.isfinite(logits).all()


def test_the_papers_network_has_its_layers() -> None:
    layers = [m for m in network(PAPER).modules() if isinstance(m, nn.Conv2d)]
    shapes = [(layer.in_channels, layer.out_channels) for layer in layers]
    down = [(1, 64), (64, 64), (64, 64), (64, 64), (64, 128), (128, 128), (128, 128), (128, 128)]
    up = [(192, 64), (64, 64), (64, 64), (64, 64)]
    assert shapes == [*down, *up, (64, 1)]
    assert not [m for m in network(PAPER).modules() if isinstance(m, nn.BatchNorm2d)]


def test_a_logit_depends_on_the_whole_window_and_on_its_own_pixel() -> None:
    settings = SMALL.model_copy(update={"batch_norm": False})
    image = torch.from_numpy(slices(1))[:, None].requires_grad_()
    network(settings)(image)[0, 0, 8, 8].backward()
    assert image.grad is not None
    seen = image.grad[0, 0] != 0
    assert seen[8, 8]
    assert seen.float().mean() > 0.9


@pytest.mark.parametrize(("pixels", "levels"), [(50, 3), (49, 2), (52, 4)])
def test_windows_that_the_levels_cannot_halve_are_refused(pixels: int, levels: int) -> None:
    with pytest.raises(ValidationError, match=rf"window_pixels \({pixels}\) must be a multiple"):
        NetworkSettings(window_pixels=pixels, levels=levels)


def test_prediction_is_the_sigmoid_of_each_slice_however_many_there_are() -> None:
    one = network().eval()
    stack = slices(70)
    found = predict_slices(one, stack, CPU)
    assert found.shape == stack.shape
    assert found.dtype == np.float32
    with torch.inference_mode():
        single = [torch.sigmoid(one(torch.from_numpy(s)[None, None]))[0, 0].numpy() for s in stack]
    np.testing.assert_allclose(found, np.stack(single), atol=1e-5)


# The file


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model/weights.npz"
    one = network().train()
    # Running means and deviations that differ from those of a new network.
    one(torch.from_numpy(slices(8))[:, None])
    save_network(path, one, SMALL, TARGET_MM3)
    return path


def test_a_read_network_predicts_what_the_written_one_did(saved: Path) -> None:
    one = network().train()
    one(torch.from_numpy(slices(8))[:, None])
    read, target_mm3 = load_network(saved, SMALL)
    assert target_mm3 == TARGET_MM3
    assert not read.training
    found = predict_slices(read, slices(5), CPU)
    np.testing.assert_allclose(found, predict_slices(one.eval(), slices(5), CPU), atol=1e-6)
    assert np.ptp(found) > 1e-4


def test_a_folded_network_says_the_same() -> None:
    trained = network()
    # Other statistics than those that a new network has.
    for _ in range(3):
        trained(3 * torch.randn(4, 1, 16, 16) + 1)
    before = predict_slices(trained.eval(), slices(5), CPU)
    after = predict_slices(folded(trained), slices(5), CPU)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in trained.modules())
    assert np.ptp(before) > 0.005
    np.testing.assert_allclose(after, before, atol=1e-6)


def test_the_same_network_is_the_same_file(saved: Path) -> None:
    again = saved.with_name("again.npz")
    read, target_mm3 = load_network(saved, SMALL)
    save_network(again, read, SMALL, target_mm3)
    assert again.read_bytes() == saved.read_bytes()


def refused(path: Path, settings: NetworkSettings = SMALL) -> str:
    with pytest.raises(InputError) as error:
        load_network(path, settings)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_another_architecture_is_refused(saved: Path) -> None:
    message = refused(saved, SMALL.model_copy(update={"channels": 8}))
    assert "'channels': 4" in message
    assert "'channels': 8" in message


def rewritten(saved: Path, change: Any) -> Path:
    with np.load(saved) as stored:
        arrays = dict(stored)
    change(arrays)
    with saved.open("wb") as file:
        np.savez(file, **arrays)
    return saved


def describe(text: Any) -> Any:
    return lambda arrays: arrays.update(description=np.array(text))


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.pop("last.weight"),
        lambda arrays: arrays.update(more=np.zeros(3)),
        lambda arrays: arrays.update({"last.weight": np.zeros((2, 2), np.float32)}),
        lambda arrays: arrays.update({"last.weight": np.array(["a"])}),
        lambda arrays: arrays.pop("description"),
        describe("{"),
        describe("[1]"),
        describe("{}"),
        describe(json.dumps({"network": SMALL.model_dump(mode="json")})),
        describe(json.dumps({"network": SMALL.model_dump(mode="json"), "target_mm3": None})),
    ],
)
def test_a_file_whose_parts_do_not_fit_is_refused(saved: Path, change: Any) -> None:
    refused(rewritten(saved, change))


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved: Path, kept: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(kept * len(content))])
    refused(saved)


def test_a_damaged_file_is_refused(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    at = content.find(b"last.weight.npy") + 300
    content[at : at + 8] = bytes(255 - byte for byte in content[at : at + 8])
    saved.write_bytes(content)
    refused(saved)


def test_a_missing_file_and_other_files_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "none.npz")
    refused(tmp_path)
    (tmp_path / "text.npz").write_text("no weights at all")
    refused(tmp_path / "text.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    refused(tmp_path / "array.npy")


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("role", ["description", "last.weight"])
def test_nothing_in_a_file_is_run(saved: Path, tmp_path: Path, role: str) -> None:
    trapped = np.empty(1, dtype=object)
    trapped[0] = Trap(tmp_path / "was here")
    refused(rewritten(saved, lambda arrays: arrays.update({role: trapped})))
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Trap(tmp_path / "was here")))
    refused(tmp_path / "pickle.npz")
    assert not (tmp_path / "was here").exists()
