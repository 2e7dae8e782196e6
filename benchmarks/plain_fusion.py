"""TFN, LMF, MFN and MFM in the plain style of thuiar/MMSA, for benchmarks/baselines_step.py.

As there: text is padded to 50 steps, TFN and LMF get the means of audio and video instead of sequences, an LSTM cell is
called step by step, one modality after the other, and MFM's decoders, codes and random normal samples likewise. Sizes
are those of a recipe's section `model`. Left out: loading of batches, scores of the training set, and the losses of a
second task; one dropout rate stands for all parts of MFN and MFM. Each returns the loss of a batch: text, audio, visual
(b t d each) and score (b).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Section = dict[str, Any]


def subnet(dim: int, hidden: int, dropout: float) -> nn.Sequential:
    layers = [layer for width in (dim, hidden, hidden) for layer in (nn.Linear(width, hidden), nn.ReLU())]
    return nn.Sequential(nn.BatchNorm1d(dim), nn.Dropout(dropout), *layers)


class PlainEncoders(nn.Module):
    """[1; vector] of audio, video and text."""

    def __init__(self, dims: dict[str, int], model: Section):
        super().__init__()
        self.audio = subnet(dims["audio"], model["audio_hidden"], model["dropout"])
        self.visual = subnet(dims["visual"], model["visual_hidden"], model["dropout"])
        self.text = nn.LSTM(dims["text"], model["text_hidden"], batch_first=True)
        self.out = nn.Linear(model["text_hidden"], model["text_out"])

    def forward(self, batch: dict[str, Tensor]) -> list[Tensor]:
        text = self.out(self.text(batch["text"])[1][0].squeeze(0))
        vectors = (self.audio(batch["audio"].squeeze(1)), self.visual(batch["visual"].squeeze(1)), text)
        return [torch.cat([torch.ones(len(x), 1), x], dim=1) for x in vectors]


class PlainTfn(nn.Module):
    def __init__(self, dims: dict[str, int], model: Section):
        super().__init__()
        self.encode, self.drop = PlainEncoders(dims, model), nn.Dropout(model["fusion_dropout"])
        product = (model["text_out"] + 1) * (model["visual_hidden"] + 1) * (model["audio_hidden"] + 1)
        self.layers = nn.ModuleList(nn.Linear(width, model["fusion_dim"]) for width in (product, model["fusion_dim"]))
        self.out = nn.Linear(model["fusion_dim"], 1)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        a, v, t = self.encode(batch)
        z = torch.bmm(a.unsqueeze(2), v.unsqueeze(1)).view(len(a), -1, 1)
        z = self.drop(torch.bmm(z, t.unsqueeze(1)).view(len(a), -1))
        for layer in self.layers:
            z = F.relu(layer(z), inplace=True)
        return F.l1_loss(6 * self.out(z).sigmoid()[:, 0] - 3, batch["score"])


class PlainLmf(nn.Module):
    def __init__(self, dims: dict[str, int], model: Section):
        super().__init__()
        self.encode = PlainEncoders(dims, model)
        widths = (model["audio_hidden"], model["visual_hidden"], model["text_out"])
        self.factors = nn.ParameterList(0.1 * torch.randn(model["rank"], width + 1, 1) for width in widths)
        self.weights, self.bias = nn.Parameter(torch.randn(1, model["rank"])), nn.Parameter(torch.zeros(1, 1))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        a, v, t = (torch.matmul(x, f) for x, f in zip(self.encode(batch), self.factors, strict=True))  # r b 1
        score = torch.matmul(self.weights, (a * v * t).permute(1, 0, 2)).squeeze() + self.bias
        return F.l1_loss(score.view(-1), batch["score"])


def gate(width: int, hidden: int, out: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, out))


class PlainMemory(nn.Module):
    """The last states of three LSTM cells and of the memory between them."""

    def __init__(self, dims: dict[str, int], memory: Section, dropout: float):
        super().__init__()
        self.cells = nn.ModuleDict({m: nn.LSTMCell(d, memory[f"{m}_hidden"]) for m, d in dims.items()})
        self.dim, states = memory["dim"], 2 * sum(memory[f"{m}_hidden"] for m in dims)
        self.attend = gate(states, memory["attention_dim"], states, dropout)
        self.propose = gate(states, memory["proposal_dim"], self.dim, dropout)
        self.retain = gate(states + self.dim, memory["retain_dim"], self.dim, dropout)
        self.update = gate(states + self.dim, memory["update_dim"], self.dim, dropout)
        self.width = states // 2 + self.dim

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        x = {name: batch[name].permute(1, 0, 2) for name in self.cells}  # t b d
        steps, b = x["text"].shape[:2]
        states = {m: (torch.zeros(b, c.hidden_size), torch.zeros(b, c.hidden_size)) for m, c in self.cells.items()}
        memory = torch.zeros(b, self.dim)
        for t in range(steps):
            new = {name: cell(x[name][t], states[name]) for name, cell in self.cells.items()}
            c = torch.cat([s[1] for s in states.values()] + [s[1] for s in new.values()], dim=1)
            attended = F.softmax(self.attend(c), dim=1) * c
            proposal = torch.tanh(self.propose(attended))
            both = torch.cat([attended, memory], dim=1)
            memory = torch.sigmoid(self.retain(both)) * memory + torch.sigmoid(self.update(both)) * proposal
            states = new
        return torch.cat([s[0] for s in states.values()] + [memory], dim=1)


class PlainMfn(nn.Module):
    def __init__(self, dims: dict[str, int], model: Section):
        super().__init__()
        self.fuse = PlainMemory(dims, model["memory"], model["dropout"])
        self.head = gate(self.fuse.width, model["head_dim"], 1, model["head_dropout"])

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return F.l1_loss(self.head(self.fuse(batch))[:, 0], batch["score"])


class PlainMfm(nn.Module):
    def __init__(self, dims: dict[str, int], model: Section):
        super().__init__()
        codes, factors, dropout = model["codes"], model["factors"], model["dropout"]
        self.fuse = PlainMemory(dims, model["memory"], dropout)
        self.code = nn.Linear(self.fuse.width, codes["label"])
        self.encoders = nn.ModuleDict({m: nn.LSTMCell(d, codes[m]) for m, d in dims.items()})
        self.codes = nn.ModuleDict({m: nn.Linear(codes[m], codes[m]) for m in dims})
        names = ("label", *dims)
        self.factors = nn.ModuleDict({m: gate(codes[m], factors[m], factors[m], dropout) for m in names})
        wide = {m: factors["label"] + factors[m] for m in dims}
        self.decoders = nn.ModuleDict({m: nn.LSTMCell(wide[m], wide[m]) for m in dims})
        self.outs = nn.ModuleDict({m: nn.Linear(wide[m], d) for m, d in dims.items()})
        self.head = gate(factors["label"], factors["label"], 1, model["head_dropout"])

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        codes = {"label": self.code(self.fuse(batch))}
        x = {name: batch[name].permute(1, 0, 2) for name in self.encoders}  # t b d
        for name, cell in self.encoders.items():
            state = None
            for step in x[name]:
                state = cell(step, state)
            codes[name] = self.codes[name](state[0])
        factors = {name: F.relu(self.factors[name](code)) for name, code in codes.items()}
        loss = F.l1_loss(self.head(factors["label"])[:, 0], batch["score"])
        for name, cell in self.decoders.items():
            read, state, states = torch.cat([factors["label"], factors[name]], dim=1), None, []
            for _ in range(len(x[name])):
                state = cell(read, state)
                read = state[0]
                states.append(read)
            loss = loss + F.mse_loss(self.outs[name](torch.stack(states)), x[name])
        return loss + sum(discrepancy(code) for code in codes.values())


def discrepancy(code: Tensor) -> Tensor:
    """Of codes from random normal samples."""
    normal = torch.randn_like(code)

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return torch.exp(-(x.unsqueeze(1) - y.unsqueeze(0)).pow(2).mean(2) / x.shape[1]).mean()

    return kernel(normal, normal) + kernel(code, code) - 2 * kernel(normal, code)
