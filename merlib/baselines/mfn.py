"""Memory Fusion Network (Zadeh et al. 2018): one LSTM per modality, and a gated memory of all their cell states.

At step t, with c all cell states: a = softmax(D_a [c_{t-1}; c_t]) * [c_{t-1}; c_t], proposal = tanh(D_u a), and
m_t = sigmoid(D_r [a; m_{t-1}]) * m_{t-1} + sigmoid(D_w [a; m_{t-1}]) * proposal; each D has one hidden layer.
Only m depends on the memory before: all else is computed for all steps at once, and no step computes padding.
Shapes: b utterances, t steps (padded), N real steps of all utterances, h width of a state, m width of the memory.
"""

from collections.abc import Collection
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.baselines.grouped_gru import StepLinear
from merlib.baselines.packed_lstm import Steps, lstm
from merlib.errors import RequestError
from merlib.layers.basics import Scores, perceptron
from merlib.registry import bind

VERSION = 2  # dropout is drawn for real steps only
AT_ONCE = 128  # utterances, as many as a batch has: every further call walks all steps (benchmarks/buckets.py)

ORDER = ("text", "audio", "visual")  # the released code's


def packed(batch: dict[str, Tensor], names: Collection[str]) -> tuple[dict[str, Tensor], Steps]:
    """The real steps of every modality, N d, and the steps that they share; RequestError where they differ."""
    masks = [batch[f"{name}_mask"] for name in names]
    if not all(torch.equal(masks[0], mask) for mask in masks):
        steps = {name: mask.sum(1).tolist()[:5] for name, mask in zip(names, masks, strict=True)}
        raise RequestError(
            f"this network reads all modalities in step, but the first utterances have {steps} steps: "
            "supply arrays aligned to the words, or one vector per utterance"
        )
    steps = Steps(masks[0])
    return {name: steps.pack(batch[name]) for name in names}, steps


class MemoryFusion(nn.Module):
    """The last states of the LSTMs of the modalities present, and of the memory between them: b (sum h + m)."""

    def __init__(
        self, *, dims: dict[str, int], text_hidden: int, audio_hidden: int, visual_hidden: int, dim: int,
        attention_dim: int, proposal_dim: int, retain_dim: int, update_dim: int, dropout: float,
    ):  # fmt: skip
        super().__init__()
        self.dim = dim
        self.drop = nn.Dropout(dropout)  # of both gates
        hidden = {"text": text_hidden, "audio": audio_hidden, "visual": visual_hidden}
        self.cells = nn.ModuleDict({name: nn.LSTMCell(dims[name], hidden[name]) for name in ORDER if name in dims})
        states = sum(hidden[name] for name in self.cells)
        of_states = partial(perceptron, width=2 * states, dropout=dropout)
        of_both = partial(perceptron, width=2 * states + dim, out=dim, dropout=dropout)
        self.attend = of_states(hidden=attention_dim, out=2 * states)
        self.propose = of_states(hidden=proposal_dim, out=dim)
        self.retain = of_both(hidden=retain_dim)
        self.update = of_both(hidden=update_dim)
        self.width = states + dim

    def forward(self, x: dict[str, Tensor], steps: Steps) -> Tensor:
        """x: N d of each modality."""
        states = [lstm(cell.parameters(), x[name], steps) for name, cell in self.cells.items()]
        h, c = (torch.cat(part, dim=-1) for part in zip(*states, strict=True))  # N (sum h)
        c = torch.cat([steps.before(c), c], dim=-1)  # this step's cells beside those of the step before
        attended = self.attend(c).softmax(-1) * c
        memory = self._memory(attended, torch.tanh(self.propose(attended)), steps)
        return torch.cat([h, memory], dim=-1)[steps.last]

    def _memory(self, attended: Tensor, proposal: Tensor, steps: Steps) -> Tensor:
        """m_t at every step, N m. Products with what is attended are those of all steps at once."""
        first, last = zip(*((gate[0], gate[-1]) for gate in (self.retain, self.update)), strict=True)
        widths = [layer.out_features for layer in first]
        weight = torch.cat([layer.weight for layer in first])
        with torch.autocast(attended.device.type, enabled=False):  # rounding errors of half precision add up in a loop
            attended, proposal = attended.to(weight.dtype), proposal.to(weight.dtype)
            known = F.linear(attended, weight[:, : -self.dim], torch.cat([layer.bias for layer in first]))
            keep = self.drop(torch.ones_like(known))
            hidden = StepLinear(known[None], weight[None, :, -self.dim :], steps.sizes)
            outs = [StepLinear(layer.bias.expand(1, len(known), -1), layer.weight[None], steps.sizes) for layer in last]
            memory, memories = known.new_zeros(1, steps.sizes[0], self.dim), []
            for new, mask in zip(proposal.split(steps.sizes), keep.split(steps.sizes), strict=True):
                memory = memory[:, : len(new)]
                both = (F.relu(hidden(memory)) * mask).split(widths, dim=-1)
                retain, update = (torch.sigmoid(out(part)) for out, part in zip(outs, both, strict=True))
                memory = torch.addcmul(retain * memory, update, new)
                memories.append(memory[0])
        return torch.cat(memories)


class Mfn(nn.Module):
    """The released network: memory fusion, one hidden layer, scores."""

    AT_ONCE = AT_ONCE

    def __init__(
        self, *, dims: dict[str, int], classes: int, sentiment: bool, memory: dict[str, Any], head_dim: int,
        dropout: float, head_dropout: float,
    ):  # fmt: skip
        super().__init__()
        self.fuse = bind(MemoryFusion, memory, what="model.memory", dims=dims, dropout=dropout)
        self.embed = nn.Linear(self.fuse.width, head_dim)
        self.drop = nn.Dropout(head_dropout)
        self.classify = Scores(dim=head_dim, classes=classes, sentiment=sentiment)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x, steps = packed(batch, self.fuse.cells)
        z = F.relu(self.embed(self.fuse(x, steps)))
        return self.classify(self.drop(z)) | {"embedding": z}
