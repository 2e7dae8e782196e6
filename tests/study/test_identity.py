"""The ids of runs are those under which caches and committed records know them, and what they depend on."""

import hashlib
import json
from types import SimpleNamespace

import pytest

from merlib import declarations, registry
from merlib.data import inputs, store
from merlib.data.folders import Dataset
from merlib.data.store import Feature
from merlib.data.table import Array
from merlib.errors import DeclarationError
from merlib.study import identity
from merlib.training import loop


def first_16(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_a_run_is_known_by_recipe_seed_fold_and_split():
    assert identity.of_run("0123456789abcdef", 3, 1, ["train", "val", "test"]) == first_16("0123456789abcdef 3 1 rae")


def test_a_recipe_is_known_by_all_that_training_reads(small):
    corpus = small["meld"]
    stamp = store.passport(corpus, "text", Array(corpus.table[["score"]].to_numpy(), "text", "x"))
    dataset = Dataset(corpus, {"text": Feature(None, stamp)})
    paper = declarations.load("attsf_net")
    recipe = declarations.recipe(paper, paper.table("table5").find("net_audio_10"), "ravdess")
    training_reads = {"split", "validation", "select_metric", "binary"}
    masks = {f"mask_{name}" for name in ("modality", "percent", "unit", "noise")}
    assert recipe["protocol"].keys() - {"average"} <= training_reads | {"select"} | masks
    columns = ["utterance", "dialogue", "speaker", "label", "split", "score"]
    versions = {"network": registry.version("model", recipe["model"]["name"]),
                "loss": registry.version("loss", recipe["loss"]["name"]),
                "inputs": inputs.VERSION, "loop": loop.VERSION}  # fmt: skip
    known_by = recipe | {
        "protocol": {name: value for name, value in recipe["protocol"].items() if name in training_reads},
        "corpus": first_16(corpus.table[columns].to_csv(index=False)),
        "features": {"text": stamp.sha256},
        "weights": identity.of_weights(recipe["model"], ["audio"]),
        "versions": versions,
    }
    assert identity.of_recipe(recipe, dataset, ["audio"]) == first_16(json.dumps(known_by, sort_keys=True))


def test_the_files_that_a_network_starts_from_are_known_by_their_content(tmp_path, monkeypatch):
    first, second = tmp_path / "first.pth", tmp_path / "second.pth"
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    asked = []

    def starting_weights(section, modalities):
        asked.append((section, modalities))
        if section.get("broken"):
            raise ValueError("no such weights")
        return {"encoder.text": [first, second], "encoder.audio": [second]}

    network = SimpleNamespace(starting_weights=starting_weights)
    monkeypatch.setattr(registry, "constructor", lambda kind, name: {("model", "net"): network}[kind, name])
    section = {"name": "net"}
    one, two = (hashlib.sha256(content).hexdigest() for content in (b"one", b"two"))
    assert identity.of_weights(section, ["text"]) == {
        "encoder.text": first_16(one + two),
        "encoder.audio": first_16(two),
    }
    assert asked == [(section, ["text"])]
    second.write_bytes(b"three")
    three = hashlib.sha256(b"three").hexdigest()
    assert identity.of_weights(section, ["text"])["encoder.audio"] == first_16(three)
    with pytest.raises(DeclarationError, match="^model net: no such weights$"):
        identity.of_weights(section | {"broken": True}, ["text"])
    del network.starting_weights
    assert identity.of_weights(section, ["text"]) == {}
