"""The mLSTM against numbers from the official modules, and against its own step-by-step definition."""

import pytest
import torch
from oracles import below, load
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.papers.mfcre.xlstm import EPS, HeadNorm, MLstmBlock, MLstmCell, MLstmLayer, at_least_float32, mlstm_parallel

MLSTM = load("xlstm_mlstm")
close32 = {"rtol": 2e-4, "atol": 2e-4}  # the fixture's float32 arrays
close64 = {"rtol": 1e-9, "atol": 1e-9}


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mlstm_step(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, state: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """One recurrent step of the mLSTM (eq. 19-27, stabilised by m as in eq. 15-17), written as a reference.

    q, k, v: ... e; i, f: ...; state: memory C ... e e, normaliser n ... e, stabiliser m ..., zeros at the start.
    Returns h ... e and the new state.
    """
    c, n, m = state
    k = k * k.shape[-1] ** -0.5
    log_f = F.logsigmoid(f)
    new_m = torch.maximum(log_f + m, i)
    keep, write = (log_f + m - new_m).exp().unsqueeze(-1), (i - new_m).exp().unsqueeze(-1)
    c = keep.unsqueeze(-1) * c + (write * k).unsqueeze(-1) * v.unsqueeze(-2)  # ... e, ... e -> ... e e
    n = keep * n + write * k
    scale = torch.maximum((q * n).sum(-1).abs(), (-new_m).exp()) + EPS
    return (q.unsqueeze(-2) @ c).squeeze(-2) / scale.unsqueeze(-1), (c, n, new_m)


def zero_memory(q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """C, n, m of an mLSTM before its first step; q: ... e."""
    return q.new_zeros(*q.shape, q.shape[-1]), torch.zeros_like(q), q.new_zeros(q.shape[:-1])


def unrolled(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor) -> Tensor:
    state, hidden = zero_memory(q[..., 0, :]), []
    for t in range(q.shape[-2]):
        h, state = mlstm_step(q[..., t, :], k[..., t, :], v[..., t, :], i[..., t], f[..., t], state)
        hidden.append(h)
    return torch.stack(hidden, dim=-2)


def official_inputs() -> tuple[Tensor, ...]:
    q, k, v = (MLSTM[f"fn/{name}"] for name in "qkv")
    return q, k, v, MLSTM["fn/igate_preact"][..., 0], MLSTM["fn/fgate_preact"][..., 0]


def load_layer(layer: MLstmLayer, prefix: str) -> None:
    """The official parameters under their names here; the official gain of a norm is stored as gain - 1."""
    w = below(MLSTM, prefix)
    cell = {name: torch.cat([w[f"mlstm_cell.{g}gate.{name}"] for g in "if"]) for name in ("weight", "bias")}
    layer.load_state_dict(
        {
            "up.weight": w["proj_up.weight"],
            "conv.conv.weight": w["conv1d.conv.weight"],
            "conv.conv.bias": w["conv1d.conv.bias"],
            "query.weight": w["q_proj.weight"],
            "key.weight": w["k_proj.weight"],
            "value.weight": w["v_proj.weight"],
            "gates.weight": cell["weight"],
            "gates.bias": cell["bias"],
            "norm.weight": 1 + w["mlstm_cell.outnorm.weight"].reshape(layer.heads, -1),
            "skip": w["learnable_skip"],
            "down.weight": w["proj_down.weight"],
        }
    )


def test_parallel_mlstm_is_the_official_function():
    torch.testing.assert_close(mlstm_parallel(*official_inputs()), MLSTM["fn/parallel64"], **close64)


def test_mlstm_step_is_the_official_recurrence():
    q, k, v, i, f = official_inputs()
    state = zero_memory(q[..., 0, :])
    for t in range(q.shape[-2]):
        h, state = mlstm_step(q[..., t, :], k[..., t, :], v[..., t, :], i[..., t], f[..., t], state)
        official = [MLSTM[f"fn/step{t}/{name}"] for name in "hcnm"]
        ours = [h.unsqueeze(-2), state[0], state[1].unsqueeze(-1), state[2][..., None, None]]
        for mine, theirs in zip(ours, official, strict=True):
            torch.testing.assert_close(mine, theirs, **close32)


@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0], ids=str)
def test_parallel_mlstm_equals_the_recurrence(scale):
    q, k, v = (random(2, 3, 9, 4, seed=s) for s in range(3))
    i, f = random(2, 3, 9, seed=3, scale=scale), random(2, 3, 9, seed=4, scale=scale)
    # The two forms stabilise with different m, and the official epsilon is added after dividing by exp(m).
    torch.testing.assert_close(mlstm_parallel(q, k, v, i, f), unrolled(q, k, v, i, f), rtol=3e-6, atol=3e-6)


def test_gradient_of_parallel_mlstm_equals_that_of_the_recurrence():
    leaves = [random(2, 2, 5, 4, seed=s).requires_grad_() for s in range(3)]
    leaves += [random(2, 2, 5, seed=s).requires_grad_() for s in (3, 4)]
    r = random(2, 2, 5, 4, seed=5)
    parallel, recurrent = (
        torch.autograd.grad((form(*leaves) * r).sum(), leaves) for form in (mlstm_parallel, unrolled)
    )
    for mine, theirs in zip(parallel, recurrent, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-5, atol=2e-5)


def test_mlstm_with_its_gates_and_norm_is_the_official_cell():
    q, k, v = (MLSTM[f"cell/in/{name}"] for name in "qkv")
    heads = MLSTM["cell/w/igate.bias"].shape[0]
    qkv = torch.cat([q, k, v], dim=-1)
    i, f = (F.linear(qkv, *(MLSTM[f"cell/w/{g}gate.{p}"] for p in ("weight", "bias"))).mT for g in "if")
    norm = HeadNorm(dim=q.shape[-1], heads=heads).double()
    norm.load_state_dict({"weight": 1 + MLSTM["cell/w/outnorm.weight"].reshape(heads, -1)})
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))  # b s d -> b h s e
    torch.testing.assert_close(norm(mlstm_parallel(q, k, v, i, f).transpose(1, 2)), MLSTM["cell/out"], **close32)


def test_mlstm_layer_is_the_official_layer():
    layer = MLstmLayer(dim=8, heads=2).double()
    load_layer(layer, "layer/w/")
    x = MLSTM["layer/in"].requires_grad_()
    y = layer(x)
    torch.testing.assert_close(y, MLSTM["layer/out64"], **close64)
    (gradient,) = torch.autograd.grad((y * MLSTM["layer/r"]).sum(), x)
    torch.testing.assert_close(gradient, MLSTM["layer/grad_in"], **close32)


def test_mlstm_block_is_the_official_block():
    block = MLstmBlock(dim=8, heads=2).double()
    load_layer(block.layer, "block/w/xlstm.")
    block.norm.load_state_dict({"weight": 1 + MLSTM["block/w/xlstm_norm.weight"]})
    torch.testing.assert_close(block(MLSTM["block/in"]), MLSTM["block/out"], **close32)


def test_mlstm_block_is_causal():
    block, x = MLstmBlock(dim=8, heads=2).double(), random(2, 7, 8)
    torch.testing.assert_close(block(x)[:, :4], block(x[:, :4]), **close64)


def test_mlstm_cell_equals_the_recurrence_with_the_matrix():
    torch.manual_seed(0)
    cell = MLstmCell(inputs=10, dim=8, heads=2).double()
    nn.init.normal_(cell.gates.weight)
    nn.init.normal_(cell.norm.weight)
    x, state, matrix = random(2, 5, 6, 10), None, None
    for t in range(x.shape[1]):
        h, state = cell(x[:, t], state)
        q, k, v, o, i, f = (part.squeeze(-2) for part in cell.split(x[:, t]))
        expected, matrix = mlstm_step(q, k, v, i[..., 0], f[..., 0], matrix or zero_memory(q))
        torch.testing.assert_close(h, o.sigmoid().flatten(-2) * cell.norm(expected), rtol=1e-12, atol=1e-12)


def test_gates_are_computed_in_at_least_float32():
    assert at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert at_least_float32(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple of its 3 heads: change dim or heads"):
        MLstmCell(inputs=4, dim=8, heads=3)
