"""The xLSTM (Beck et al. 2024) with a matrix memory (mLSTM), its residual block, and with a scalar memory (sLSTM).

Shapes: b sequences, s steps, h heads, e width of a head, d = h e, "..." any leading axes. Gates are pre-activations.
A cell computes one step, `hidden, state = cell(x, state)`, and starts from an empty memory when `state` is None.
MLstmCell and SLstmCell can be computed `together`: their inputs are then s N ..., their parameters stacked.
"""

import torch
from einops import einsum, rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import RequestError
from merlib.layers.together import Linear

EPS = 1e-6


def at_least_float32(x: Tensor) -> Tensor:
    """Raise the precision under autocast: exponential gates need float32 or better."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _weights(products: Tensor, width: int, log_weight: Tensor, m: Tensor) -> Tensor:
    """How much is read of each value in the memory: a sum over the steps t that wrote, in place of the matrix C.

    products: ... s t, of the query at step s with the key of step t; width: of both. log_weight: ... s t, logarithm of
    the weight that the gates leave to step t at step s; m: ... s 1. The result does not depend on m, which only keeps
    the exponentials small, so m needs no gradient.
    """
    m = m.detach()
    weight = at_least_float32(products) * width**-0.5 * (log_weight - m).exp()
    return weight / (torch.maximum(weight.sum(-1, keepdim=True).abs(), (-m).exp()) + EPS)


def mlstm_parallel(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor) -> Tensor:
    """All steps of the mLSTM at once, from zero memory. q, k, v: b h s e; i, f: b h s. Returns b h s e.

    It is causal, so that padding after a sequence has no influence on it.
    """
    s = q.shape[-2]
    past = torch.ones(s, s, dtype=torch.bool, device=q.device).tril()
    decay = (F.logsigmoid(f).unsqueeze(-2) * past).sum(-1)  # a running sum; cumsum is not deterministic on a GPU
    log_weight = decay.unsqueeze(-1) - decay.unsqueeze(-2) + i.unsqueeze(-2)  # b h s -> b h s t
    log_weight = log_weight.masked_fill(~past, -torch.inf)
    return _weights(q @ k.mT, q.shape[-1], log_weight, log_weight.amax(-1, keepdim=True)).to(v.dtype) @ v


class HeadNorm(nn.Module):
    """Layer normalisation of each head separately, with a gain and no bias. The official code stores gain - 1."""

    def __init__(self, *, dim: int, heads: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(heads, dim // heads))

    def forward(self, x: Tensor) -> Tensor:
        """... h e -> ... (h e), or s N h e -> s N (h e) with stacked weights"""
        weight = self.weight if self.weight.ndim == 2 else self.weight.unsqueeze(1)
        return (F.layer_norm(x, x.shape[-1:]) * weight).flatten(-2)


def gates(inputs: int, heads: int) -> Linear:
    """Input and forget gates of every head. Initially they ignore the input, and each head forgets at its own rate."""
    linear = Linear(inputs, 2 * heads)
    nn.init.zeros_(linear.weight)
    with torch.no_grad():
        linear.bias[:heads].normal_(std=0.1)
        linear.bias[heads:] = torch.linspace(3.0, 6.0, heads)
    return linear


class MLstmCell(nn.Module):
    """One mLSTM step at a time with an output gate, for few steps of many sequences (all utterances at once).

    The memory of T steps from zero is exactly what the T pairs of keys and values write into it, so the state keeps
    those (T e numbers a head) and never the e x e matrix. Equal to eqs. 19-27 of Beck et al., and linear in T.
    """

    def __init__(self, *, inputs: int, dim: int, heads: int):
        super().__init__()
        if dim % heads:
            raise RequestError(f"the mLSTM is {dim} wide, not a multiple of its {heads} heads: change dim or heads")
        self.heads = heads
        self.project = Linear(inputs, 4 * dim)  # q, k, v and the output gate
        self.gates = gates(inputs, heads)
        self.norm = HeadNorm(dim=dim, heads=heads)

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """x: ... d_in. Returns q, k, v, output gate: ... h 1 e and i, f: ... h 1, a sequence of one step."""
        qkvo = rearrange(self.project(x), "... (four h e) -> four ... h 1 e", four=4, h=self.heads)
        return *qkvo, *rearrange(at_least_float32(self.gates(x)), "... (two h) -> two ... h 1", two=2)

    def forward(self, x: Tensor, state: tuple[Tensor, ...] | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """x: ... d_in. Returns h ... d and the state: keys and values of the t steps so far (... h t e), and the
        logarithm of the weight that the gates leave to each of them (... h t) and to the empty memory (... h 1)."""
        q, k, v, o, i, f = self.split(x)
        log_f = F.logsigmoid(f)
        old_k, old_v, old_weight, empty = state or (k[..., :0, :], v[..., :0, :], i[..., :0], torch.zeros_like(f))
        k, v = torch.cat([old_k, k], dim=-2), torch.cat([old_v, v], dim=-2)
        log_weight, empty = torch.cat([old_weight + log_f, i], dim=-1), empty + log_f
        m = torch.maximum(log_weight.amax(-1, keepdim=True), empty)
        products = (at_least_float32(q) * k).sum(-1)  # with few steps faster than a batch of tiny matrix products
        weights = _weights(products, q.shape[-1], log_weight, m)  # ... h t
        h = (weights.unsqueeze(-1) * v).sum(-2)  # ... h e
        return o.sigmoid().flatten(-3) * self.norm(h), (k, v, log_weight, empty)


class BlockLinear(nn.Module):
    """A block-diagonal projection without bias; each block maps `block` channels."""

    def __init__(self, *, dim: int, block: int = 4):
        super().__init__()
        if dim % block:
            raise RequestError(f"width {dim} is not a multiple of the block size {block}: change dim")
        self.weight = nn.Parameter(torch.randn(dim // block, block, block) * (2 / (5 * block)) ** 0.5)  # g out in

    def forward(self, x: Tensor) -> Tensor:
        blocks = x.unflatten(-1, self.weight.shape[:2])  # ... d -> ... g in
        return einsum(blocks, self.weight, "... g i, g o i -> ... g o").flatten(-2)


class CausalConv(nn.Module):
    """A convolution of each channel over the present step and the `kernel` - 1 steps before it."""

    def __init__(self, *, dim: int, kernel: int = 4):
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, kernel, groups=dim, padding=kernel - 1)

    def forward(self, x: Tensor) -> Tensor:
        """b s d -> b s d"""
        return self.conv(x.mT)[..., : x.shape[1]].mT


class MLstmLayer(nn.Module):
    """An mLSTM between an up- and a down-projection (Beck et al. 2024; the layer of Vision-LSTM). b s d."""

    def __init__(self, *, dim: int, heads: int, expansion: int = 2):
        super().__init__()
        inner = expansion * dim
        self.heads = heads
        self.up = nn.Linear(dim, 2 * inner, bias=False)
        self.conv = CausalConv(dim=inner)
        self.query, self.key, self.value = (BlockLinear(dim=inner) for _ in range(3))
        self.gates = gates(3 * inner, heads)
        self.norm = HeadNorm(dim=inner, heads=heads)
        self.skip = nn.Parameter(torch.ones(inner))
        self.down = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x, z = self.up(x).chunk(2, dim=-1)
        past = F.silu(self.conv(x))
        qkv = torch.stack([self.query(past), self.key(past), self.value(x)])  # three b s d
        raw = at_least_float32(self.gates(rearrange(qkv, "three b s d -> b s (three d)")))
        i, f = rearrange(raw, "b s (two h) -> two b h s", two=2)
        q, k, v = rearrange(qkv, "three b s (h e) -> three b h s e", h=self.heads)
        h = self.norm(rearrange(mlstm_parallel(q, k, v, i, f), "b h s e -> b s h e"))
        return self.down((h + self.skip * past) * F.silu(z))


class MLstmBlock(nn.Module):
    """Residual pre-norm mLSTM layer, as Vision-LSTM's ViLBlock. b s d -> b s d, causal."""

    def __init__(self, *, dim: int, heads: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim, bias=False)
        self.layer = MLstmLayer(dim=dim, heads=heads)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(self.norm(x))


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
        self.project = Linear(inputs, 4 * dim)
        with torch.no_grad():
            self.project.bias[dim : 2 * dim] = torch.linspace(3.0, 6.0, dim)  # forget slowly at the start
        self.recurrent = nn.Parameter(torch.zeros(heads, dim // heads, 4, dim // heads))  # h in slot out

    def forward(self, x: Tensor, state: tuple[Tensor, ...] | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """x: ... d_in; state: y, c, n, m, each ... d. Returns y ... d and the new state."""
        raw = at_least_float32(self.project(x))
        if state is None:
            state = (torch.zeros_like(raw[..., : raw.shape[-1] // 4]),) * 4
        y = state[0].unflatten(-1, self.recurrent.shape[-4:-2])  # ... d -> ... h e
        kernel = self.recurrent if self.recurrent.ndim == 4 else self.recurrent.unsqueeze(1)
        mixed = torch.einsum("...he,...heso->...sho", y, kernel).flatten(-3)  # s: slot, o: out
        state = slstm_step(raw + mixed, state)
        return state[0], state
