"""MFCRE's contrastive loss: numbers of the released MultiEMO code, and the paper's equations for each utterance."""

import math

import pytest
import torch
from building import recipe_of
from oracles import load, meta
from torch import Tensor
from torch.testing import assert_close

from merlib import registry
from merlib.papers.mfcre.loss import class_weights_batch, class_weights_swfc, soft_hgr, swfc
from merlib.papers.mfcre.network import FUSIONS

EXACT = {"rtol": 1e-9, "atol": 1e-9}
SINGLE = {"rtol": 1e-4, "atol": 1e-6}  # the oracle ran in float32
RECIPE = {"name": "contrastive", "mu_swfc": 0.4, "mu_hgr": 0.3, "tau": 0.9, "alpha": 0.8, "gamma": 3.0}
VARIANTS = pytest.mark.parametrize("variant", ["code", "paper"])


@pytest.mark.parametrize("case", range(4))
def test_swfc_gives_the_released_values_and_gradients(case):
    cfg = meta("multiemo_swfc")["cases"][case]
    arrays = {
        k.removeprefix(f"case{case}/"): v for k, v in load("multiemo_swfc").items() if k.startswith(f"case{case}/")
    }
    weights = class_weights_swfc(arrays["class_counts"], cfg["sample_weight_param"])
    assert_close(weights, arrays["class_weights"], **SINGLE)
    z = arrays["features"].requires_grad_()
    loss = swfc(z, arrays["labels"], weights, tau=cfg["temp_param"], gamma=cfg["focus_param"], variant="code")
    assert_close(loss, arrays["loss"], **SINGLE)
    loss.backward()
    assert_close(z.grad, arrays["grad_features"], **SINGLE)


@pytest.mark.parametrize("case", range(2))
def test_soft_hgr_gives_the_released_values_and_gradients(case):
    arrays = load("multiemo_softhgr")
    names = ("t", "a", "v")
    fused = torch.stack([arrays[f"case{case}/f_{m}"] for m in names], dim=1).requires_grad_()
    loss = soft_hgr(fused, variant="code")
    assert_close(loss, arrays[f"case{case}/loss"], **SINGLE)
    loss.backward()
    for i, m in enumerate(names):
        assert_close(fused.grad[:, i], arrays[f"case{case}/grad_{m}"], **SINGLE)


def batch(n: int = 9, d: int = 5, classes: int = 3, modalities: int = 3) -> tuple[dict[str, Tensor], Tensor]:
    torch.manual_seed(0)
    outputs = {"logits": (n, classes), "embedding": (n, d), "fused": (n, modalities, d)}
    outputs = {name: torch.randn(shape, dtype=torch.double) for name, shape in outputs.items()}
    return outputs, torch.arange(n) ** 2 % classes


def paper_swfc(z: Tensor, label: Tensor, *, tau: float, alpha: float, gamma: float) -> float:
    """Eq. 11-12, written out."""
    total, n = 0.0, len(label)
    for j in range(n):
        others = [s for s in range(n) if s != j]
        positives = [g for g in others if label[g] == label[j]]
        denominator = sum(math.exp(z[j] @ z[s] / tau) for s in others)
        for g in positives:
            s = math.exp(z[j] @ z[g] / tau) / denominator
            count = sum(bool(y == label[j]) for y in label)
            total -= (n / count) ** alpha / len(positives) * (1 - s) ** gamma * math.log(s)
    return total


def paper_hgr(fused: Tensor) -> float:
    """Eq. 13 over ordered pairs, with numpy's covariance of centred features."""
    features = [f - f.mean(0) for f in fused.unbind(1)]
    total = 0.0
    for i, q in enumerate(features):
        for j, v in enumerate(features):
            if i != j:
                total += (q * v).sum(1).mean() - torch.trace(torch.cov(q.T) @ torch.cov(v.T)) / 2
    return -float(total)


def without_multiattn(fused: Tensor, row: str) -> Tensor:
    """What the loss of a row of Table 4 reads of N m d encoded vectors."""
    fuse = FUSIONS[recipe_of(f"mfcre/table4/{row}")["model"]["fusion"]["name"]]()
    return torch.stack(list(fuse(dict(enumerate(fused.unbind(1))), None).values()), dim=1)


@pytest.mark.parametrize(
    ("row", "variant", "bound"),
    [("wo_multiattn", "code", -24 / 6), ("wo_multiattn_raw", "code", None), ("wo_multiattn_raw", "paper", -6 * 5 / 2)],
)
def test_without_multiattn_the_released_soft_hgr_is_bounded_only_where_vectors_are_normalised(row, variant, bound):
    """Shifted features, then vectors that learn to lower the loss: 6 utterances, 3 modalities, 8 features."""
    torch.manual_seed(0)
    free = torch.randn(6, 3, 8, dtype=torch.double).requires_grad_()
    shifted = [soft_hgr(without_multiattn(free + shift, row), variant=variant).item() for shift in (0, 10, 100)]
    lowest, optimizer = min(shifted), torch.optim.Adam([free], lr=1.0)
    for _ in range(60):
        optimizer.zero_grad()
        loss = soft_hgr(without_multiattn(free, row), variant=variant)
        loss.backward()
        optimizer.step()
        lowest = min(lowest, loss.item())
    if bound is None:
        falls = (shifted[2] - shifted[0]) / (shifted[1] - shifted[0])
        assert falls == pytest.approx(100, rel=0.1) and lowest < -1000, "with the square of the shift, without end"
    else:
        assert lowest >= bound and shifted == pytest.approx([shifted[0]] * 3)


def test_the_paper_variant_is_equations_11_to_15():
    outputs, label = batch()
    loss = registry.build("loss", RECIPE | {"variant": "paper"}, class_counts=[3, 3, 3])
    settings = {name: RECIPE[name] for name in ("tau", "alpha", "gamma")}
    expected = {
        "swfc": paper_swfc(outputs["embedding"], label, **settings),
        "soft_hgr": paper_hgr(outputs["fused"]),
        "cross_entropy": -float(sum(p[y] for p, y in zip(outputs["logits"].log_softmax(1), label, strict=True))),
    }
    expected["loss"] = (0.4 * expected["swfc"] + 0.3 * expected["soft_hgr"] + 0.3 * expected["cross_entropy"]) / len(
        label
    )  # eq. 15
    parts = loss(outputs, {"label": label})
    assert_close({name: float(value) for name, value in parts.items()}, expected, **EXACT)


def test_the_code_variant_is_a_weighted_sum_of_means():
    outputs, label = batch()
    loss = registry.build("loss", RECIPE | {"variant": "code"}, class_counts=[10, 20, 30]).double()
    weights = class_weights_swfc(torch.tensor([10.0, 20.0, 30.0]), 0.8).double()
    expected = {
        "swfc": swfc(outputs["embedding"], label, weights, tau=0.9, gamma=3.0, variant="code"),
        "soft_hgr": soft_hgr(outputs["fused"], variant="code"),
        "cross_entropy": torch.nn.functional.cross_entropy(outputs["logits"], label),
    }
    total = 0.4 * expected["swfc"] + 0.3 * expected["soft_hgr"] + 0.3 * expected["cross_entropy"]
    assert_close(loss(outputs, {"label": label}), {"loss": total, **expected}, rtol=1e-6, atol=1e-6)


@VARIANTS
def test_unlabelled_utterances_do_not_reach_swfc_and_cross_entropy(variant):
    outputs, label = batch()
    loss = registry.build("loss", RECIPE | {"variant": variant, "mu_hgr": 0.0}, class_counts=[3, 3, 3]).double()
    label[[1, 5]] = -1
    known = label >= 0
    labelled = loss({name: value[known] for name, value in outputs.items()}, {"label": label[known]})
    assert_close(loss(outputs, {"label": label}), labelled, **EXACT)


@VARIANTS
def test_a_part_without_weight_is_skipped(variant):
    outputs, label = batch()
    recipe = RECIPE | {"variant": variant}
    ablations = {"mu_swfc": "swfc", "mu_hgr": "soft_hgr"}
    for key, part in ablations.items():
        parts = registry.build("loss", recipe | {key: 0.0}, class_counts=[3, 3, 3])(outputs, {"label": label})
        assert set(parts) == {"loss", "cross_entropy", *ablations.values()} - {part}
    without_entropy = registry.build("loss", recipe | {"mu_swfc": 0.9, "mu_hgr": 0.1}, class_counts=[3, 3, 3])(
        outputs, {"label": label}
    )
    assert set(without_entropy) == {"loss", "swfc", "soft_hgr"}


@VARIANTS
def test_losses_stay_finite_at_the_edges(variant):
    """A lone utterance, a class of one, one modality, vectors so alike or so long that exp under- or overflows."""
    loss = registry.build("loss", RECIPE | {"variant": variant, "tau": 0.01}, class_counts=[3, 3, 3])
    for n, modalities, scale in ((1, 3, 1.0), (2, 3, 1.0), (4, 1, 1.0), (9, 2, 1e3), (9, 3, 1e-8)):
        outputs, label = batch(n=n, modalities=modalities)
        outputs = {name: (scale * value).float().requires_grad_() for name, value in outputs.items()}
        parts = loss(outputs, {"label": label})
        parts["loss"].backward()
        assert all(value.isfinite() for value in parts.values()), (n, modalities, scale)
        assert all(value.grad is None or value.grad.isfinite().all() for value in outputs.values())


def test_weights_in_the_batch_favour_rare_classes():
    weights = class_weights_batch(torch.tensor([0, 0, 0, 2]), classes=3, alpha=0.5)
    assert_close(weights[[0, 2]], torch.tensor([4 / 3, 4.0], dtype=torch.double) ** 0.5)


@pytest.mark.parametrize(
    ("change", "counts", "message"),
    [
        ({"variant": "both"}, [1, 1], "both"),
        ({"variant": "code"}, [3, 0], "every class"),
        ({"variant": "code", "mu_hgr": 0.7}, [1, 1], "exceed 1"),
        ({"name": "hinge"}, [1, 1], "contrastive"),
    ],
)
def test_impossible_losses_are_refused(change, counts, message):
    with pytest.raises(ValueError, match=message):
        registry.build("loss", RECIPE | change, class_counts=counts)


@VARIANTS
def test_a_batch_without_labels_is_refused(variant):
    outputs, label = batch()
    with pytest.raises(ValueError, match="no label"):
        registry.build("loss", RECIPE | {"variant": variant}, class_counts=[3, 3, 3])(
            outputs, {"label": torch.full_like(label, -1)}
        )
