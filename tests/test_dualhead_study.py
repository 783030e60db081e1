"""Studies and presets of the method `dualhead`: what they state is what is trained."""

from pathlib import Path

import pytest
import torch
import yaml
from workflow_runs import run_workflow

from landmarkflow.methods.dualhead.losses import hardest_cross_entropy, heat_of
from landmarkflow.methods.dualhead.network import DualHead, new_networks
from landmarkflow.methods.dualhead.settings import DualHeadSettings, PassSettings

PRESETS = sorted((Path(__file__).parents[1] / "studies/presets/dualhead").glob("*.yaml"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_makes_networks_that_learn(path: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    settings = DualHeadSettings.model_validate(yaml.safe_load(path.read_text("utf-8"))).train
    networks = new_networks(settings, labels=2, landmarks=4)
    network = networks["fine"]
    assert isinstance(network, DualHead)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    window = torch.rand((1, 1, 32, 32, 32), generator=torch.Generator().manual_seed(1))
    losses = []
    for _ in range(4):
        logits = network(window)
        assert logits.shape == (1, 3 + 4, 32, 32, 32)
        loss = hardest_cross_entropy(logits[:, :3], torch.ones((1, 32, 32, 32)).long(), 1.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_at_first_a_landmark_is_as_likely_in_the_window_as_not() -> None:
    settings = PassSettings(window=16, levels=2, channels=4)
    network = DualHead(settings, 0, 3)
    with torch.no_grad():
        network.heat.weight.zero_()  # type: ignore[union-attr]
        heat, presence = heat_of(network(torch.rand(1, 1, 16, 16, 16))[0], "softmax")
    assert presence.tolist() == pytest.approx([0.5] * 3, abs=1e-3)
    assert float(heat.min()) >= 0


def test_the_hardest_voxels_are_those_that_count() -> None:
    logits = torch.zeros((1, 2, 2, 5, 10))
    logits[:, 0] = 8.0
    labels = torch.zeros((1, 2, 5, 10), dtype=torch.long)
    labels[0, 0, 0, 0] = 1
    one = hardest_cross_entropy(logits, labels, 0.01)
    assert float(one) == pytest.approx(8.0, abs=1e-2)
    assert float(hardest_cross_entropy(logits, labels, 1.0)) == pytest.approx(0.08, abs=1e-2)


@pytest.mark.slow
def test_the_study_of_annotations_gives_each_run_the_scans_that_it_states(
    root: Path, tmp_path: Path
) -> None:
    study = root / "studies/annotations_full.yaml"
    done = run_workflow(root, tmp_path, "--dry-run", "--configfile", study)
    assert done.status == 0, done.text
    read = {}
    for part in done.text.split("rule gather_examples:")[1:]:
        inputs, outputs = (
            next(line for line in part.splitlines() if line.strip().startswith(f"{word}:"))
            for word in ("input", "output")
        )
        run = outputs.split("results/annotations_full/")[1].split("/")[0]
        read[run] = (inputs.count("/work/scans/"), inputs.count("oneshot/segmentations/"))
    for count in (1, 2, 4, 8, 16, 32, 40):
        for name in (f"dualhead-{count}", f"dualhead-{count}-seed2", f"dualhead-{count}-seed3"):
            assert read[name] == (count, 0)
    assert read["distilled"] == (24, 24)
    assert done.jobs["train_dualhead_fold-1"] == 22
