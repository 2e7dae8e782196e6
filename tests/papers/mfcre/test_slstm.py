"""The sLSTM against numbers from the official modules."""

import pytest
import torch
from oracles import below, load
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.papers.mfcre.xlstm import BlockLinear, CausalConv, HeadNorm, SLstmCell, slstm_step

SLSTM = load("xlstm_slstm")
close32 = {"rtol": 2e-4, "atol": 2e-4}  # the fixture's float32 arrays


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
    """Convolution and SiLU come before fgate (input slot) and igate (forget slot); zgate and ogate read x itself."""
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
    torch.manual_seed(0)
    cell, x = SLstmCell(inputs=5, dim=8, heads=2).double(), torch.randn(3, 4, 5).double()
    nn.init.normal_(cell.recurrent)
    torch.testing.assert_close(scan(cell, x)[0][:1], scan(cell, x[:1])[0], rtol=1e-14, atol=1e-14)


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple of its 3 heads: change dim or heads"):
        SLstmCell(inputs=4, dim=8, heads=3)
