"""The xLSTM cells against numbers from the official modules, and against their own step-by-step definition."""

import pytest
import torch
from oracles import below, load
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.papers.mfcre.xlstm import (
    BlockLinear,
    CausalConv,
    HeadNorm,
    MLstmBlock,
    MLstmCell,
    MLstmLayer,
    SLstmCell,
    at_least_float32,
    mlstm_parallel,
    mlstm_step,
    slstm_step,
)

MLSTM, SLSTM = load("xlstm_mlstm"), load("xlstm_slstm")
close32 = {"rtol": 2e-4, "atol": 2e-4}  # the fixture's float32 arrays
close64 = {"rtol": 1e-9, "atol": 1e-9}


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


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
        found = [h.unsqueeze(-2), state[0], state[1].unsqueeze(-1), state[2][..., None, None]]
        for mine, theirs in zip(found, official, strict=True):
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


def official_slstm(prefix: str, project: tuple[Tensor, Tensor]) -> SLstmCell:
    """A cell with the official recurrent kernel and the given weight and bias of the projection to its four slots."""
    kernel = SLSTM[prefix].unflatten(1, (4, -1)).movedim(-1, 1)  # h (slot out) in -> h in slot out
    cell = SLstmCell(inputs=project[0].shape[1], dim=kernel.shape[0] * kernel.shape[1], heads=len(kernel)).double()
    cell.load_state_dict({"project.weight": project[0], "project.bias": project[1], "recurrent": kernel})
    return cell


def scan(cell: nn.Module, x: Tensor, state: tuple[Tensor, ...] | None = None) -> tuple[Tensor, list]:
    """A cell over the steps of x: b s d. Returns b s d and the state after every step."""
    states = []
    for t in range(x.shape[1]):
        _, state = cell(x[:, t], state)
        states.append(state)
    return torch.stack([s[0] for s in states], dim=1), states


def heads_first(y: Tensor) -> Tensor:
    return y.unflatten(-1, (2, -1)).transpose(1, 2)  # b s d -> b h s e


def bare_slstm() -> SLstmCell:
    return official_slstm("cell/w/_recurrent_kernel_", (torch.eye(32).double(), SLSTM["cell/w/_bias_"]))


def test_pointwise_slstm_is_the_official_one():
    raw = SLSTM["pw/Wx"] + SLSTM["pw/Ry"] + SLSTM["pw/b"]
    torch.testing.assert_close(torch.stack(slstm_step(raw, SLSTM["pw/states"])), SLSTM["pw/new_states"], **close32)
    start = torch.zeros_like(SLSTM["pw/states"])
    torch.testing.assert_close(torch.stack(slstm_step(raw, start)), SLSTM["pw/new_states_from_zero"], **close32)


def test_slstm_cell_is_the_official_one():
    x = SLSTM["cell/in"].requires_grad_()
    y, states = scan(bare_slstm(), x)
    torch.testing.assert_close(heads_first(y), SLSTM["cell/out_BNSH"], **close32)
    torch.testing.assert_close(torch.stack(states[-1]), SLSTM["cell/final_state"], **close32)
    trace = torch.stack([torch.stack(state) for state in states], dim=1)  # 4 s b d
    torch.testing.assert_close(trace, SLSTM["trace/states_y_c_n_m"][:, 1:], **close32)
    (gradient,) = torch.autograd.grad((heads_first(y) * SLSTM["cell/r"]).sum(), x)
    torch.testing.assert_close(gradient, SLSTM["cell/grad_in"], **close32)


def test_slstm_cell_continues_from_a_state():
    y, states = scan(bare_slstm(), SLSTM["cell/in"], tuple(SLSTM["cell2/state0"]))
    torch.testing.assert_close(heads_first(y), SLSTM["cell2/out_BNSH"], **close32)
    torch.testing.assert_close(torch.stack(states[-1]), SLSTM["cell2/final_state"], **close32)


@pytest.mark.parametrize("name", ["layer", "layer_noconv"])
def test_official_slstm_layer_is_reached_with_the_documented_order_of_its_gates(name):
    """Convolution and SiLU before the gates fgate -> input slot and igate -> forget slot; zgate, ogate see x itself."""
    w = below(SLSTM, f"{name}/w/")
    x = past = SLSTM[f"{name}/in"].requires_grad_()
    if name == "layer":
        conv = CausalConv(dim=8).double()
        conv.load_state_dict({f"conv.{p}": w[f"conv1d.conv.{p}"] for p in ("weight", "bias")})
        past = F.silu(conv(x))
    slots = []
    for gate, source in (("fgate", past), ("igate", past), ("zgate", x), ("ogate", x)):
        linear = BlockLinear(dim=8).double()
        linear.load_state_dict({"weight": w[f"{gate}.weight"]})
        slots.append(linear(source))
    cell = official_slstm(f"{name}/w/slstm_cell._recurrent_kernel_", (torch.eye(32).double(), w["slstm_cell._bias_"]))
    norm = HeadNorm(dim=8, heads=2).double()
    norm.load_state_dict({"weight": 1 + w["group_norm.weight"].reshape(2, -1)})
    y = norm(scan(cell, torch.cat(slots, dim=-1))[0].unflatten(-1, (2, -1)))
    torch.testing.assert_close(y, SLSTM[f"{name}/out"], **close32)
    if name == "layer":
        (gradient,) = torch.autograd.grad((y * SLSTM["layer/r"]).sum(), x)
        torch.testing.assert_close(gradient, SLSTM["layer/grad_in"], **close32)


def test_a_sequence_does_not_see_its_batch_mates():
    cell, x = SLstmCell(inputs=5, dim=8, heads=2).double(), random(3, 4, 5)
    nn.init.normal_(cell.recurrent)
    torch.testing.assert_close(scan(cell, x)[0][:1], scan(cell, x[:1])[0], rtol=1e-14, atol=1e-14)


def test_gates_are_computed_in_at_least_float32():
    assert at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert at_least_float32(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("cell", [MLstmCell, SLstmCell], ids=lambda cell: cell.__name__)
def test_a_width_that_heads_do_not_divide_is_refused(cell):
    with pytest.raises(ValueError, match="multiple of its 3 heads: change dim or cell_heads"):
        cell(inputs=4, dim=8, heads=3)
