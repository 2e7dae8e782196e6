"""Steps in a drawn order: the control for what a network learns from the order of steps."""

import numpy as np
import pytest
import torch
from building import recipe_of

from merlib.data import inputs
from merlib.data.folders import Dataset
from merlib.data.store import Feature
from merlib.errors import DeclarationError, RequestError


def steps(lengths=(5, 1, 0, 40)):
    """Every step has a value of its own."""
    return torch.arange(2 * sum(lengths), dtype=torch.float32).reshape(-1, 2), torch.tensor(lengths)


def test_an_utterance_keeps_its_steps_in_another_order():
    values, lengths = steps()
    drawn = inputs.shuffled(values, lengths)
    assert drawn.shape == values.shape and drawn.dtype == values.dtype
    for before, after in zip(values.split(lengths.tolist()), drawn.split(lengths.tolist()), strict=True):
        assert sorted(after.tolist()) == sorted(before.tolist()), "the same steps, each whole"
    assert not torch.equal(drawn[-40:], values[-40:])
    moved = (drawn[-40:, 0] - values[-40:, 0]).abs() / 2
    assert moved.mean() > 8, "a drawn order moves a step by a third of the length on average, not to its neighbour"


def test_the_order_follows_the_seed_alone():
    values, lengths = steps()
    first, again, other = (inputs.shuffled(values, lengths, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    order = inputs.shuffled(values, lengths, seed=1)[:, 0] / 2
    assert torch.equal(inputs.shuffled(-values, lengths, seed=1)[:, 0] / 2, -order), "whatever the values are"


@pytest.fixture(scope="module")
def sections():
    recipe = recipe_of("attsf_net/table_controls/audio_shuffled", "ravdess")
    return {name: recipe[name] for name in ("data", "protocol")}


@pytest.fixture(scope="module")
def ravdess(small):
    """Its clips, with two to six steps of audio each."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(2, 7, len(small["ravdess"].table))
    values = draw.normal(size=(lengths.sum(), 3)).astype(np.float32)
    return Dataset(small["ravdess"], {"audio": Feature(values, None, lengths)})


def test_a_run_reads_the_same_steps_masks_and_labels(ravdess, sections):
    recorded = {name: value for name, value in sections["data"].items() if name != "order"}
    plain = inputs.splits(ravdess, data=recorded, protocol=sections["protocol"])
    drawn = inputs.splits(ravdess, **sections)
    for name, split in plain.items():
        rows = torch.arange(len(split))
        one, other = split.batch(rows), drawn[name].batch(rows)
        assert torch.equal(one["audio_mask"], other["audio_mask"]) and torch.equal(one["label"], other["label"])
        assert not torch.equal(one["audio"], other["audio"])
        assert torch.equal(one["audio"].sort(dim=1).values, other["audio"].sort(dim=1).values)
        assert not other["audio"][~other["audio_mask"]].any()


def test_other_orders_and_the_order_of_utterances_are_refused(ravdess, sections):
    with pytest.raises(DeclarationError, match=r"'reversed' is no data\.order; there are: recorded, shuffled"):
        inputs.splits(ravdess, data=sections["data"] | {"order": "reversed"}, protocol=sections["protocol"])
    with pytest.raises(RequestError, match=r"use it with data\.unit utterance"):
        inputs.splits(ravdess, data=sections["data"] | {"unit": "dialogue"}, protocol=sections["protocol"])


def test_no_other_recipe_has_the_leaf():
    shuffled, plain = (recipe_of(f"attsf_net/table_controls/{row}") for row in ("audio_shuffled", "audio"))
    assert shuffled["data"].pop("order") == "shuffled" and shuffled == plain
    assert plain == recipe_of("attsf_net/table6/audio", "ravdess"), "the same run, with the same id as ever"
