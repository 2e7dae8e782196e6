"""Memory Fusion Network (Zadeh et al. 2018): one LSTM per modality, and a gated memory of all their cell states.

At step t, with c all cell states: a = softmax(D_a [c_{t-1}; c_t]) * [c_{t-1}; c_t], proposal = tanh(D_u a), and
m_t = sigmoid(D_r [a; m_{t-1}]) * m_{t-1} + sigmoid(D_w [a; m_{t-1}]) * proposal; each D has one hidden layer.
Shapes: b utterances, t steps (padded), h width of a state, m width of the memory.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import RequestError
from merlib.layers.basics import Scores, perceptron
from merlib.layers.ragged import last_state
from merlib.registry import bind

VERSION = 1

ORDER = ("text", "audio", "visual")  # the released code's


def aligned(batch: dict[str, Tensor], names: tuple[str, ...]) -> Tensor:
    """The mask that all modalities share, b t; RequestError where they differ in steps."""
    masks = [batch[f"{name}_mask"] for name in names]
    if not all(torch.equal(masks[0], mask) for mask in masks):
        steps = {name: mask.sum(1).tolist()[:5] for name, mask in zip(names, masks, strict=True)}
        raise RequestError(
            f"this network reads all modalities in step, but the first utterances have {steps} steps: "
            "supply arrays aligned to the words, or one vector per utterance"
        )
    return masks[0]


def states_of(cell: nn.LSTMCell, x: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden and cell states at every step. x: b t d. Returns b t h twice."""
    state, states = None, []
    for step in x.unbind(1):
        state = cell(step, state)
        states.append(state)
    h, c = zip(*states, strict=True)
    return torch.stack(h, dim=1), torch.stack(c, dim=1)


class MemoryFusion(nn.Module):
    """The last states of the LSTMs of the modalities present, and of the memory between them: b (sum h + m)."""

    def __init__(
        self, *, dims: dict[str, int], text_hidden: int, audio_hidden: int, visual_hidden: int, dim: int,
        attention_dim: int, proposal_dim: int, retain_dim: int, update_dim: int, dropout: float,
    ):  # fmt: skip
        super().__init__()
        self.dim = dim
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

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        mask = aligned(batch, tuple(self.cells))
        states = [states_of(cell, batch[name]) for name, cell in self.cells.items()]
        h, c = (torch.cat(part, dim=-1) for part in zip(*states, strict=True))  # b t (sum h)
        c = torch.cat([F.pad(c, (0, 0, 1, -1)), c], dim=-1)  # this step's cells beside those of the step before
        attended = self.attend(c).softmax(-1) * c
        proposal = torch.tanh(self.propose(attended))
        memory, memories = c.new_zeros(len(c), self.dim), []
        for a, new in zip(attended.unbind(1), proposal.unbind(1), strict=True):
            both = torch.cat([a, memory], dim=-1)
            memory = torch.sigmoid(self.retain(both)) * memory + torch.sigmoid(self.update(both)) * new
            memories.append(memory)
        return last_state(torch.cat([h, torch.stack(memories, dim=1)], dim=-1), mask)


class Mfn(nn.Module):
    """The released network: memory fusion, one hidden layer, scores."""

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
        z = F.relu(self.embed(self.fuse(batch)))
        return self.classify(self.drop(z)) | {"embedding": z}
