"""HFF's estimates of uncertainty: against samples, torch.distributions and the passes one by one."""

import pytest
import torch
from torch.testing import assert_close

from merlib.papers.hff.uncertainty import BayesByBackprop, Gaussian, McDropout, trusted

EXACT = {"rtol": 1e-9, "atol": 1e-9}


def test_confident_modalities_weigh_more():
    mean, variance = torch.tensor([[[[1.0], [3.0]]]]), torch.tensor([[[[0.25], [0.75]]]])
    out = trusted(mean, variance.log(), noise=False)
    assert_close(out["aligned"], torch.tensor([[[1.5]]]))  # weights 4 and 4/3
    assert_close(out["variance"], torch.tensor([[[0.25, 0.75]]]))
    torch.manual_seed(0)
    many = trusted(mean.expand(1, 20000, 2, 1), variance.log().expand(1, 20000, 2, 1), noise=True)["aligned"]
    assert_close(many.mean(), torch.tensor(1.5), rtol=0.0, atol=0.02)
    assert_close(many.var(), torch.tensor(3 / 16), rtol=0.05, atol=0.0)  # 1 / (4 + 4/3)


def test_a_modality_of_boundless_variance_is_not_trusted_and_has_a_gradient():
    module = Gaussian(modalities=2, dim=4, width=4, epsilon=1e-6).eval()
    with torch.no_grad():
        module.log_variance.of[0].bias.fill_(1000.0)  # its exp() overflows
    x = torch.randn(1, 3, 2, 4)
    aligned = module(x, x.sum(-2))["aligned"]
    assert_close(aligned, module.mean.of[1](x[..., 1, :]))
    aligned.square().sum().backward()
    assert all(weight.grad.isfinite().all() for weight in module.parameters())


def test_mc_dropout_is_the_mean_and_variance_of_its_passes():
    module = McDropout(modalities=2, dim=4, dropout=0.4, samples=6, epsilon=1e-6).double().eval()
    assert module.masks.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    x = torch.randn(1, 3, 2, 4).double()
    passes = torch.stack([module.mean(x * mask) for mask in module.masks.unbind(0)])
    naive = trusted(passes.mean(0), (passes.var(0, unbiased=False) + 1e-6).log(), noise=False)
    for key, value in module(x, x.sum(-2)).items():
        assert_close(value, naive[key], **EXACT)
    other = McDropout(modalities=2, dim=4, dropout=0.4, samples=6, epsilon=1e-6)
    assert other.masks.equal(module.masks.float())  # the same networks in every run


def test_gaussian_weights_give_the_moments_that_samples_of_them_have():
    torch.manual_seed(0)
    module = BayesByBackprop(modalities=2, dim=4, epsilon=1e-6).double()
    with torch.no_grad():
        module.log_variance.normal_(-1.0)
    x = torch.randn(1, 1, 2, 4).double()
    out = module.eval()(x, x.sum(-2))
    for m, map_of in enumerate(module.mean.of):
        draws = torch.randn(100000, 4, 4).double() * (module.log_variance[m] / 2).exp() + map_of.weight
        y = draws @ x[0, 0, m] + map_of.bias
        assert_close(y.mean(0), map_of(x[0, 0, m]), rtol=0.0, atol=0.03)
        assert_close(y.var(0).mean(), out["variance"][0, 0, m], rtol=0.02, atol=0.0)
    prior = torch.distributions.Normal(torch.zeros(()).double(), 0.5)  # 1 / sqrt(4)
    weights = torch.stack([map_of.weight for map_of in module.mean.of])
    posterior = torch.distributions.Normal(weights, (module.log_variance / 2).exp())
    assert_close(out["kl"], torch.distributions.kl_divergence(posterior, prior).sum().expand(1, 1), **EXACT)
