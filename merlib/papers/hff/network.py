"""HFF: three levels of fusion, which are weights and uncertainty, attention, a GRU (Sec. 3.2-3.3, Fig. 1).

Shapes: b dialogues, n utterances, m modalities, d = dim, h heads of width e, c classes; B sequences of s steps, which
are dialogues and their utterances, or utterances and their modalities. Masks are True on real positions. Every reading
of the paper is a keyword; what is chosen and why stands in the paper's notes.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import RequestError, one_of
from merlib.layers.basics import Unchanged, perceptron
from merlib.papers.hff.level_one import level_one

VERSION = 1

# Width of a head. Where the heads divide dim, "floor" and "pad" are the standard attention; "fixed" is it with 8 heads.
WIDTHS = {
    "floor": lambda dim, heads: dim // heads,
    "fixed": lambda dim, heads: dim // 8,
    "pad": lambda dim, heads: -(-dim // heads),
}


class Attention(nn.Module):
    """Multi-head attention (eqs. 21-23) of any number of heads: inside, it is heads times e wide, whatever d is."""

    def __init__(self, *, dim: int, heads: int, head_split: str, dropout: float):
        super().__init__()
        inner = heads * one_of(WIDTHS, head_split, "head_split")(dim, heads)
        if not inner:
            raise RequestError(f"dim {dim} leaves {heads} heads ({head_split}) no width: fewer heads, or a larger dim")
        self.heads, self.dropout = heads, dropout
        self.query_key_value = nn.Linear(dim, 3 * inner)
        self.out = nn.Linear(inner, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: B s d; mask: B s."""
        qkv = self.query_key_value(x).unflatten(-1, (3, self.heads, -1))  # B s d -> B s 3 h e
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # B h s e each
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None], dropout_p=dropout)
        return self.out(attended.transpose(1, 2).flatten(-2))


class EncoderLayer(nn.Module):
    """PyTorch's encoder layer with any number of heads: each stage is LN(x + dropout(stage(x)))."""

    def __init__(self, *, dim: int, heads: int, head_split: str, ff: int, dropout: float):
        super().__init__()
        self.attend = Attention(dim=dim, heads=heads, head_split=head_split, dropout=dropout)
        self.feed_forward = nn.Sequential(nn.Linear(dim, ff), nn.ReLU(), nn.Dropout(dropout), nn.Linear(ff, dim))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.norms[0](x + self.drop(self.attend(x, mask)))
        return self.norms[1](x + self.drop(self.feed_forward(x)))


class Encoder(nn.Module):
    """The Transformer encoder of Sec. 4.1: B s d -> B s d."""

    def __init__(self, *, layers: int, dim: int, heads: int, head_split: str, ff: int, dropout: float):
        super().__init__()
        layer = {"dim": dim, "heads": heads, "head_split": head_split, "ff": ff, "dropout": dropout}
        self.layers = nn.ModuleList(EncoderLayer(**layer) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, mask)
        return x


class TorchGru(nn.Module):
    """PyTorch's GRU: biases, and the reset gate after the product. It runs forward, so it never meets padding first."""

    def __init__(self, *, dim: int):
        super().__init__()
        self.rnn = nn.GRU(dim, dim, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.rnn(x)[0]


class PaperGru(nn.Module):
    """The GRU of eqs. (24)-(27), without biases. What reads x is computed for all steps at once."""

    def __init__(self, *, dim: int):
        super().__init__()
        self.read = nn.Linear(dim, 3 * dim, bias=False)  # the columns of W_z, W_r and W_h that meet x
        self.gate = nn.Linear(dim, 2 * dim, bias=False)  # those of W_z and W_r that meet h
        self.recall = nn.Linear(dim, dim, bias=False)  # those of W_h that meet r h

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h, states, dim = torch.zeros_like(x[:, 0]), [], x.shape[-1]
        gates, candidates = self.read(x).split([2 * dim, dim], dim=-1)
        for gate, candidate in zip(gates.unbind(1), candidates.unbind(1), strict=True):
            z, r = (gate + self.gate(h)).sigmoid().chunk(2, -1)  # eq. 24-25
            h = h + z * ((candidate + self.recall(r * h)).tanh() - h)  # eq. 26-27
            states.append(h)
        return torch.stack(states, dim=1)


class PerQuery(nn.Module):
    """Eq. (28) for each step t: f_t = sum_s beta_ts h_s, with beta_t the softmax over s of <h_t, h_s>.

    No parameters, as eq. (28) has none, and no scale: at first every utterance weighs its own state most.
    """

    def __init__(self, *, dim: int):
        super().__init__()

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        h = h.unsqueeze(1)
        return F.scaled_dot_product_attention(h, h, h, attn_mask=mask[:, None, None], scale=1.0).squeeze(1)


class Global(nn.Module):
    """Eq. (28) as it stands: one beta a sequence, and every step of it gets the same vector."""

    def __init__(self, *, dim: int):
        super().__init__()
        self.score = nn.Linear(dim, 1, bias=False)

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        beta = self.score(h).masked_fill(~mask.unsqueeze(-1), -torch.inf).softmax(1)  # B s 1
        return (beta * h).sum(1, keepdim=True).expand_as(h)


class Levels(nn.Module):
    """Levels 2 and 3 on sequences: attention with the residual of eq. (23), the GRU, the sum of eq. (28)."""

    def __init__(self, *, attend: nn.Module, encode: nn.Module, temporal: nn.Module, pool: nn.Module, dropout: float):
        super().__init__()
        self.attend, self.encode, self.temporal, self.pool = attend, encode, temporal, pool
        self.drop = nn.Dropout(dropout)

    def forward(self, f0: Tensor, f1: Tensor, mask: Tensor) -> Tensor:
        """f0: B s d; f1: B s d or B 1 d; mask: B s. Returns B s d."""
        f2 = self.encode(self.attend(f0, mask) + f1, mask)  # eq. 23
        return self.pool(self.temporal(self.drop(f2), mask), mask)


def over_dialogue(levels: nn.Module, tokens: Tensor, aligned: Tensor, mask: Tensor) -> Tensor:
    """The sequence is the dialogue, with f0 of eq. (18), one vector an utterance. Returns b n d."""
    return levels(tokens.sum(-2), aligned, mask)


def over_modalities(levels: nn.Module, tokens: Tensor, aligned: Tensor, mask: Tensor) -> Tensor:
    """The sequence is one utterance's modalities; f1 is added to each, and the last step gives the vector, b n d."""
    x = tokens.flatten(0, 1)  # b n m d -> B s d
    every = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    return levels(x, aligned.flatten(0, 1).unsqueeze(1), every)[:, -1].unflatten(0, mask.shape)


class Hff(nn.Module):
    """The network. `forward` returns `logits` b n c, `embedding` b n d (f_final of eq. 28) and, where level 1 has them,
    `weights` b n m (alpha), `variance` b n m (mean over d of sigma_m^2 + epsilon) and `kl` b n, for the loss and for
    figures.

    dims: modality -> width of its features, any subset of the three. With sentiment, mosei_output "heads" gives
    `logits_binary` b n 2 too (negative, the rest), "regression" the score alone, `logits` b n 1. Table 4: attention
    "none", weighting "uniform" with uncertainty "none", temporal "none", alignment "none" or "concat".
    """

    def __init__(
        self, *, dims: dict[str, int], classes: int, sentiment: bool, dim: int, text_dim: int, text_vector: str,
        weighting: str, uncertainty: str, uncertainty_samples: int, uncertainty_epsilon: float, alignment: str,
        sequence: str, attention: str, encoder: str, layers: int, heads: int, head_split: str, ff_ratio: int,
        temporal: str, cell: str, pooling: str, head_layers: int, head_dim: int, mosei_output: str,
        dropout: float, head_dropout: float,
    ):  # fmt: skip
        super().__init__()
        if sequence == "modality" and alignment == "concat":
            raise RequestError(
                "alignment = 'concat' leaves one vector an utterance: there is no sequence of modalities"
            )
        self.align = level_one(
            dims=dims, dim=dim, text_dim=text_dim, text_vector=text_vector, weighting=weighting, dropout=dropout,
            uncertainty=uncertainty, samples=uncertainty_samples, epsilon=uncertainty_epsilon, alignment=alignment,
        )  # fmt: skip
        split = {"heads": heads, "head_split": head_split, "dropout": dropout}
        one, stack = partial(Attention, **split), partial(Encoder, **split, layers=layers, ff=ff_ratio * dim)
        encoders = {"level2": (stack, Unchanged), "separate": (one, stack), "single": (one, Unchanged)}
        attentions = {"multihead": one_of(encoders, encoder, "encoder"), "none": (Unchanged, Unchanged)}
        attend, encode = one_of(attentions, attention, "attention")
        temporals = {"gru": one_of({"torch": TorchGru, "paper": PaperGru}, cell, "cell"), "none": Unchanged}
        temporal = one_of(temporals, temporal, "temporal")
        pool = one_of({"per_query": PerQuery, "state": Unchanged, "global": Global}, pooling, "pooling")
        parts = {"attend": attend, "encode": encode, "temporal": temporal, "pool": pool}
        self.levels = Levels(**{name: part(dim=dim) for name, part in parts.items()}, dropout=dropout)
        self.over = one_of({"dialogue": over_dialogue, "modality": over_modalities}, sequence, "sequence")
        tasks = {"heads": {"logits": classes, "logits_binary": 2}, "regression": {"logits": 1}}
        outputs = one_of(tasks, mosei_output, "mosei_output") if sentiment else {"logits": classes}
        head = {"width": dim, "hidden": head_dim, "layers": head_layers, "dropout": head_dropout}
        self.classify = nn.ModuleDict({name: perceptron(**head, out=count) for name, count in outputs.items()})

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        found = self.align(batch)  # eqs. 16-20
        z = self.over(self.levels, found.pop("tokens"), found.pop("aligned"), batch["mask"])  # eqs. 21-28: b n d
        return {name: classify(z) for name, classify in self.classify.items()} | {"embedding": z} | found
