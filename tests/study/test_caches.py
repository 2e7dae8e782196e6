"""What lies in the cache is believed only if it is what was written there for this run; else it is made again."""

import json
import shutil

import numpy as np
import pytest
import torch

from merlib import declarations, study
from merlib.data import inputs, masking
from merlib.files import seal_of
from merlib.study import runs

ROWS = ("majority", "logistic")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a tiny twin, and two floors of Table 3 that have run, with their results by row."""
    from merlib import twins

    folder, patch = tmp_path_factory.mktemp("caches"), pytest.MonkeyPatch()
    patch.setenv("MERLIB_DATA", str(folder / "data"))
    patch.setenv("MERLIB_RESULTS", str(folder / "results"))
    patch.setattr(twins, "SCALE", 0.04)
    runs._dataset.cache_clear()
    twins.ensure("twin", ["meld"])
    planned = {row: run_of(row) for row in ROWS}
    yield planned, {row: runs.execute(run, progress=False) for row, run in planned.items()}
    patch.undo()
    runs._dataset.cache_clear()


def run_of(row: str, **options) -> runs.Run:
    return study.runs_of(declarations.load("mfcre"), "table3", row=row, **options)[0][2]


def edit_scores(folder, _):
    result = json.loads((folder / "run.json").read_text())
    result["selected"]["val"]["scores"]["accuracy"] = 0.99
    (folder / "run.json").write_text(json.dumps(result, indent=1))


def flip(name):
    def damage(folder, _):
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return damage


def take_from_another(folder, other):
    for name in ("run.json", "predictions.npz"):
        for each in (lambda path: path, seal_of):
            shutil.copy(each(other / name), each(folder / name))


DAMAGE = {
    "scores edited": edit_scores,
    "run.json flipped": flip("run.json"),
    "predictions flipped": flip("predictions.npz"),
    "predictions lost": lambda folder, _: (folder / "predictions.npz").unlink(),
    "run.json empty": lambda folder, _: (folder / "run.json").write_text(""),
    "run.json nested deeply": lambda folder, _: (folder / "run.json").write_text("[" * 100_000),
    "run.json not UTF-8": lambda folder, _: (folder / "run.json").write_bytes(b"\xff\xfe{}"),
    "run.json of another run": lambda folder, other: shutil.copy(other / "run.json", folder / "run.json"),
    "all of another run": take_from_another,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_finished_run_that_was_damaged_is_told_and_trained_again(trained, damage, capsys):
    planned, results = trained
    run, other = (planned[row] for row in ROWS)
    with np.load(run.folder / "predictions.npz") as arrays:
        before = dict(arrays)
    damage(run.folder, other.folder)
    again = runs.execute(run_of("majority"), progress=False)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == ("lost" not in damage.__name__ and damage is not DAMAGE["predictions lost"])
    assert all(str(run.folder) in line and "made again" in line for line in lines)
    assert again["selected"] == results["majority"]["selected"] and again["id"] == run.id and run.finished
    with np.load(run.folder / "predictions.npz") as arrays:
        assert all(np.array_equal(before[name], arrays[name]) for name in before)
    assert runs.execute(run, progress=False) == again and capsys.readouterr().err == "", "and not a third time"


def test_a_network_and_its_masked_scores_are_checked_too(twin, capsys):
    change = {"train.epochs": 1, "readings.ravdess_split": "clips"}
    run = study.runs_of(declarations.load("attsf_net"), "5", row="net_audio_10", change=change)[0][2]
    first = runs.execute(run, progress=False)
    (masked,) = run.folder.glob("masked_*.json")
    masked.write_text(masked.read_text().replace("0.", "0.9", 1))
    assert runs.execute(run, progress=False) == first
    assert masked.name in capsys.readouterr().err
    flip("network.safetensors")(run.folder, None)
    again = runs.execute(run, progress=False)
    assert again["selected"] == first["selected"] and again["history"] == first["history"]
    assert "network.safetensors" in capsys.readouterr().err


def test_noise_at_test_time_replaces_steps_before_they_are_pooled(twin):
    run = study.runs_of(declarations.load("attsf_net"), "3", row="pooled_mlp")[0][2]
    mask = {"modality": "audio", "percent": 100, "unit": "steps", "noise": "normal"}
    plain, noisy = run.splits(), run.splits(mask=mask)
    sections = {"data": run.data_section, "protocol": run.recipe["protocol"]}
    parts = inputs.splits(run.dataset, **sections)
    noise = masking.masked(parts["test"], parts["train"], **mask, seed=run.seed).batch(torch.tensor([2]))["audio"][0]
    expected = torch.cat([noise.mean(0), noise.std(0, correction=0)])
    torch.testing.assert_close(noisy["test"].features["audio"][2], expected)
    assert torch.equal(noisy["train"].features["audio"], plain["train"].features["audio"])
    assert torch.equal(noisy["test"].features["visual"], plain["test"].features["visual"])
