"""Numbers that change without a new VERSION fail here, since a run is known by the versions of its code."""

import json

import golden
import pytest

from merlib import registry

KEPT = json.loads(golden.FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("address", KEPT)
def test_a_version_has_the_numbers_that_it_had(address):
    expected = KEPT[address]
    recipe = expected["recipe"]
    assert expected["versions"] == golden.versions(recipe), (
        "a version was raised: look at what changed, then write the golden values anew (python tests/study/golden.py)"
    )
    trained = golden.trained(recipe)
    assert trained["parameters"] == expected["parameters"]
    for step, losses in zip(trained["losses"], expected["losses"], strict=True):
        assert step == pytest.approx(losses, rel=1e-9, abs=1e-12), (
            "other numbers under the same version: raise VERSION in the file of the network, the loss or the loop"
        )
    assert trained["weights"] == pytest.approx(expected["weights"], rel=1e-9)


def test_every_network_and_loss_has_golden_values():
    networks = {kept["recipe"]["model"]["name"] for kept in KEPT.values()}
    losses = {kept["recipe"]["loss"]["name"] for kept in KEPT.values()}
    assert networks == set(filter(golden.of_its_own, registry.offers("model")))
    assert losses == set(registry.offers("loss"))


def test_the_golden_values_are_of_the_declared_recipes():
    declared = json.loads(json.dumps(golden.entries(), default=float))
    assert {address: kept["recipe"] for address, kept in KEPT.items()} == declared, (
        "declarations have changed: write the golden values anew (python tests/study/golden.py)"
    )
