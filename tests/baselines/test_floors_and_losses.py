"""Floors, and the losses of MFM and ICCN: against NumPy, SciPy and integrals."""

import numpy as np
import pytest
import torch
from scipy.linalg import inv, sqrtm
from small_networks import WIDTHS, batch_of, network_of
from torch.nn import functional as F
from torch.testing import assert_close

from merlib import registry
from merlib.baselines.iccn import mean_correlation
from merlib.baselines.mfm import mmd_to_normal

EXACT = {"rtol": 1e-9, "atol": 1e-9}


def test_ridge_finds_a_line():
    x = np.random.default_rng(0).normal(size=(50, 3))
    estimator = registry.build("model", {"name": "ridge", "alpha": 1e-9}, seed=0).fit(x, x @ [1.0, 2.0, -1.0])
    assert_close(estimator.coef_, np.array([1.0, 2.0, -1.0]), rtol=1e-6, atol=1e-6)


def test_the_discrepancy_is_the_integral_over_the_normal_distribution():
    node, weight = np.polynomial.hermite_e.hermegauss(40)
    y = np.stack(np.meshgrid(node, node), axis=-1).reshape(-1, 2)
    w = np.outer(weight, weight).ravel() / weight.sum() ** 2
    x = np.random.default_rng(0).normal(size=(6, 2)) * 2 + 1

    def kernel(a, b):
        return np.exp(-((a[:, None] - b) ** 2).mean(-1) / 2)  # the released code's, in two dimensions

    expected = kernel(x, x).mean() - 2 * (kernel(x, y) @ w).mean() + w @ kernel(y, y) @ w
    assert_close(mmd_to_normal(torch.from_numpy(x)).item(), expected, **EXACT)


def test_correlation_is_that_of_the_roots_of_the_covariances():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    y = x @ rng.normal(size=(3, 3)) + rng.normal(size=(40, 3))
    covariance = np.cov(x.T, y.T)
    roots = [inv(sqrtm(covariance[part, part] + 0.1 * np.eye(3))) for part in (slice(0, 3), slice(3, 6))]
    expected = np.linalg.svd(roots[0] @ covariance[:3, 3:] @ roots[1], compute_uv=False).mean()
    views = torch.from_numpy(x).requires_grad_(), torch.from_numpy(y).requires_grad_()
    assert_close(mean_correlation(*views, ridge=0.1).item(), expected, **EXACT)
    assert torch.autograd.gradcheck(lambda a, b: mean_correlation(a, b, ridge=0.1), views)
    assert_close(
        mean_correlation(views[0], views[0] @ torch.randn(3, 3).double(), ridge=1e-9).item(), 1.0, rtol=0, atol=1e-6
    )


LOSSES = {
    "mfm": {"reconstruction_text": 5.0, "reconstruction_audio": 2.0, "reconstruction_visual": 3.0, "mmd": 10.0},
    "iccn": {"correlation": 0.5, "ridge": 0.01},
}
TARGET = {"label": torch.tensor([0, 3, 6, 4]), "score": torch.tensor([-3.0, -0.2, 3.0, 0.6]).double()}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("names", [("text", "audio"), tuple(WIDTHS)], ids="+".join)
def test_a_loss_adds_its_weighted_parts_and_reaches_the_whole_network(name, names):
    recipe = {"name": name, "class_weights": "none", "binary": "nonnegative"} | LOSSES[name]
    loss = registry.build("loss", recipe, class_counts=[1.0] * 7, sentiment=True, dim=None)
    net, batch = network_of(name, names, sentiment=True), batch_of(name, names)
    outputs = net(batch)
    parts = loss(outputs, TARGET)
    rest = torch.tensor([0, 0, 1, 1])
    expected = F.cross_entropy(outputs["logits"], TARGET["label"]) + F.cross_entropy(outputs["logits_binary"], rest)
    if name == "mfm":
        for m in names:
            expected = expected + LOSSES["mfm"][f"reconstruction_{m}"] * outputs[f"reconstruction_{m}"].mean()
        expected = expected + 10 * sum(mmd_to_normal(outputs[f"code_{m}"]) for m in ("label", *names))
    elif len(names) == 3:
        expected = expected - 0.5 * mean_correlation(outputs["view_audio"], outputs["view_visual"], ridge=0.01)
    assert_close(parts["loss"], expected, **EXACT)
    parts["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 1e-12 for p in net.parameters())


def test_mfm_reconstructs_its_inputs():
    batch = batch_of("mfm")
    net = network_of("mfm")
    error = net(batch)["reconstruction_audio"]
    with torch.no_grad():
        for p in net.decode["audio"].out.parameters():
            p.zero_()  # zeros are reconstructed, so the error is the mean square of the steps
    squares = [x[real].square().mean() for x, real in zip(batch["audio"], batch["audio_mask"], strict=True)]
    assert_close(net(batch)["reconstruction_audio"], torch.stack(squares), **EXACT)
    assert (error - torch.stack(squares)).abs().min() > 1e-6
