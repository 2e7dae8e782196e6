"""The xLSTM with a scalar memory (sLSTM; Beck et al. 2024, "xLSTM").

Shapes: h heads, e width of a head, d = h e, "..." any leading axes. The cell computes one step,
`hidden, state = cell(x, state)`, and starts from an empty memory when `state` is None.
"""

import torch
from einops import einsum
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import RequestError
from merlib.papers.mfcre.mlstm import at_least_float32


def slstm_step(raw: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The pointwise part of one sLSTM step (Beck et al. 2024, eq. 8-17), as the official code computes it.

    raw: ... (4 d), pre-activations in the order input, forget, cell input, output; state: y, c, n, m, each ... d.
    The official code tests whether the whole tensor n is still zero. Here each unit tests its own n: the same on
    every state that the recurrence can reach (n >= 1 after one step), and sequences stay independent.
    """
    _, c, n, m = state
    i, f, z, o = raw.chunk(4, dim=-1)
    log_f = m + F.logsigmoid(f)
    new_m = torch.where(n == 0, i, torch.maximum(i, log_f))
    write, keep = (i - new_m).exp().clamp(max=1), (log_f - new_m).exp().clamp(max=1)
    c = keep * c + write * z.tanh()
    n = keep * n + write
    return o.sigmoid() * c / n, c, n, new_m


class SLstmCell(nn.Module):
    """One sLSTM step; a block-diagonal recurrent matrix connects each unit to the last outputs of its own head.

    The four slots are input, forget, cell input, output. In the official *layer* the module called `fgate` feeds the
    input slot and `igate` the forget slot (NX-AI/xlstm issue 98, kept there for old checkpoints). To load such
    weights, give `project` the rows of fgate, igate, zgate and ogate, in this order.
    """

    def __init__(self, *, inputs: int, dim: int, heads: int):
        super().__init__()
        if dim % heads:
            raise RequestError(f"the sLSTM is {dim} wide, not a multiple of its {heads} heads: change dim or heads")
        self.project = nn.Linear(inputs, 4 * dim)
        with torch.no_grad():
            self.project.bias[dim : 2 * dim] = torch.linspace(3.0, 6.0, dim)  # forget slowly at the start
        self.recurrent = nn.Parameter(torch.zeros(heads, dim // heads, 4, dim // heads))  # h in slot out

    def forward(self, x: Tensor, state: tuple[Tensor, ...] | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """x: ... d_in; state: y, c, n, m, each ... d. Returns y ... d and the new state."""
        raw = at_least_float32(self.project(x))
        if state is None:
            state = (torch.zeros_like(raw[..., : raw.shape[-1] // 4]),) * 4
        y = state[0].unflatten(-1, self.recurrent.shape[:2])  # ... d -> ... h e
        mixed = einsum(y, self.recurrent, "... h e, h e slot out -> ... slot h out").flatten(-3)
        state = slstm_step(raw + mixed, state)
        return state[0], state
