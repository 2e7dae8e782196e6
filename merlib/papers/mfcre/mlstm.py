"""The xLSTM with a matrix memory (mLSTM) and its residual block (Beck et al. 2024, "xLSTM").

Shapes: b sequences, s steps, h heads, e width of a head, d = h e, "..." any leading axes. Gates are pre-activations.
A cell computes one step, `hidden, state = cell(x, state)`, and starts from an empty memory when `state` is None.
"""

import torch
from einops import einsum, rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import RequestError

EPS = 1e-6


def at_least_float32(x: Tensor) -> Tensor:
    """Raise the precision under autocast: exponential gates need float32 or better."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


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


def _read(q: Tensor, k: Tensor, v: Tensor, log_weight: Tensor, m: Tensor) -> Tensor:
    """Read the memory that the steps t have written, at the queries s: a sum over t in place of the matrix C.

    q: ... s e; k, v: ... t e; log_weight: ... s t, logarithm of the weight that the gates leave to step t at step s;
    m: ... s 1. The result does not depend on m, which only keeps the exponentials small, so m needs no gradient.
    """
    m = m.detach()
    weight = at_least_float32(q @ k.mT) * k.shape[-1] ** -0.5 * (log_weight - m).exp()
    scale = torch.maximum(weight.sum(-1, keepdim=True).abs(), (-m).exp()) + EPS
    return (weight / scale).to(v.dtype) @ v


def mlstm_parallel(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor) -> Tensor:
    """All steps of the mLSTM at once, from zero memory. q, k, v: b h s e; i, f: b h s. Returns b h s e.

    It is causal, so that padding after a sequence has no influence on it.
    """
    s = q.shape[-2]
    past = torch.ones(s, s, dtype=torch.bool, device=q.device).tril()
    decay = (F.logsigmoid(f).unsqueeze(-2) * past).sum(-1)  # a running sum; cumsum is not deterministic on a GPU
    log_weight = decay.unsqueeze(-1) - decay.unsqueeze(-2) + i.unsqueeze(-2)  # b h s -> b h s t
    log_weight = log_weight.masked_fill(~past, -torch.inf)
    return _read(q, k, v, log_weight, log_weight.amax(-1, keepdim=True))


class HeadNorm(nn.Module):
    """Layer normalisation of each head separately, with a gain and no bias. The official code stores gain - 1."""

    def __init__(self, *, dim: int, heads: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(heads, dim // heads))

    def forward(self, x: Tensor) -> Tensor:
        """... h e -> ... (h e)"""
        return (F.layer_norm(x, x.shape[-1:]) * self.weight).flatten(-2)


def gates(inputs: int, heads: int) -> nn.Linear:
    """Input and forget gates of every head. Initially they ignore the input, and each head forgets at its own rate."""
    linear = nn.Linear(inputs, 2 * heads)
    nn.init.zeros_(linear.weight)
    with torch.no_grad():
        linear.bias[:heads].normal_(std=0.1)
        linear.bias[heads:] = torch.linspace(3.0, 6.0, heads)
    return linear


class MLstmCell(nn.Module):
    """One mLSTM step at a time with an output gate, for few steps of many sequences (all utterances at once).

    The memory of T steps from zero is exactly what the T pairs of keys and values write into it, so the state keeps
    those (T e numbers a head) and never the e x e matrix. Equal to `mlstm_step`, and linear in T.
    """

    def __init__(self, *, inputs: int, dim: int, heads: int):
        super().__init__()
        if dim % heads:
            raise RequestError(f"the mLSTM is {dim} wide, not a multiple of its {heads} heads: change dim or heads")
        self.heads = heads
        self.project = nn.Linear(inputs, 4 * dim)  # q, k, v and the output gate
        self.gates = gates(inputs, heads)
        self.norm = HeadNorm(dim=dim, heads=heads)

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """x: ... d_in. Returns q, k, v, output gate: ... h 1 e and i, f: ... h 1 1, a sequence of one step."""
        qkvo = rearrange(self.project(x), "... (four h e) -> four ... h 1 e", four=4, h=self.heads)
        return *qkvo, *rearrange(at_least_float32(self.gates(x)), "... (two h) -> two ... h 1 1", two=2)

    def forward(self, x: Tensor, state: tuple[Tensor, ...] | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """x: ... d_in. Returns h ... d and the state: keys and values of the t steps so far (... h t e), and the
        logarithm of the weight that the gates leave to each of them (... h t 1) and to the empty memory (... h 1 1)."""
        q, k, v, o, i, f = self.split(x)
        log_f = F.logsigmoid(f)
        old_k, old_v, old_weight, empty = state or (k[..., :0, :], v[..., :0, :], i[..., :0, :], torch.zeros_like(f))
        k, v = torch.cat([old_k, k], dim=-2), torch.cat([old_v, v], dim=-2)
        log_weight, empty = torch.cat([old_weight + log_f, i], dim=-2), empty + log_f
        m = torch.maximum(log_weight.amax(-2, keepdim=True), empty)
        h = _read(q, k, v, log_weight.mT, m)
        return o.sigmoid().flatten(-3) * self.norm(h.squeeze(-2)), (k, v, log_weight, empty)


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
        i, f = rearrange(
            at_least_float32(self.gates(rearrange(qkv, "three b s d -> b s (three d)"))),
            "b s (two h) -> two b h s",
            two=2,
        )
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
