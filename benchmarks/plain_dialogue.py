"""DialogueRNN and DialogueGCN in the plain style of declare-lab/conv-emotion, COGMEN in that of Exploration-Lab/COGMEN.

For benchmarks/baselines_step.py. As there: dialogues are padded to the longest, GRU cells go turn by turn, one
direction after the other, with one index a dialogue; attention over the dialogue goes turn by turn; edges are listed
one by one in Python, with their weights, and convolutions gather the messages of each relation. Sizes are those of a
recipe's section `model`. Left out: loading of batches, predictions of the training set, layers that are built and never
called, and PyTorch Geometric, whose convolutions are a few lines here. Each returns the loss of a batch: x (b n d),
mask, speaker and label (b n each).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Section = dict[str, Any]
PARTIES = 2


def reversed_dialogues(x: Tensor, lengths: list[int]) -> Tensor:
    """n b ... with every dialogue from its last turn to its first."""
    turned = [torch.flip(one[:n], [0]) for one, n in zip(x.transpose(0, 1), lengths, strict=True)]
    return nn.utils.rnn.pad_sequence(turned)


def attended(x: Tensor, transform: nn.Linear, mask: Tensor) -> Tensor:
    """Attention of each turn over its dialogue, turn by turn. x: n b d; mask: b n."""
    turns = []
    for turn in x:
        keys = x.permute(1, 2, 0) * mask.unsqueeze(1)  # b d n
        weight = F.softmax(torch.tanh(torch.bmm(transform(turn).unsqueeze(1), keys)), dim=2) * mask.unsqueeze(1)
        turns.append(torch.bmm(weight / weight.sum(2, keepdim=True), x.transpose(0, 1))[:, 0])
    return torch.stack(turns)


class PlainDirection(nn.Module):
    def __init__(self, dim: int, context: Section):
        super().__init__()
        g, p, e = (context[f"{name}_dim"] for name in ("global", "party", "emotion"))
        self.sizes, self.drop = (g, p, e), nn.Dropout(context["recurrent_dropout"])
        self.to_global, self.to_party, self.to_emotion = (
            nn.GRUCell(dim + p, g),
            nn.GRUCell(dim + g, p),
            nn.GRUCell(p, e),
        )
        self.transform = nn.Linear(dim, g, bias=False)

    def forward(self, x: Tensor, speaker: Tensor) -> Tensor:
        """x: n b d; speaker: n b p, one-hot."""
        g, p, e = self.sizes
        past, b = torch.zeros(0), x.shape[1]
        parties, emotion, emotions = torch.zeros(b, PARTIES, p), torch.zeros(b, e), torch.zeros(0)
        for u, who in zip(x, speaker, strict=True):
            index = who.argmax(1)
            own = torch.cat([q[i].unsqueeze(0) for i, q in zip(index, parties, strict=True)])
            state = self.drop(self.to_global(torch.cat([u, own], 1), past[-1] if len(past) else torch.zeros(b, g)))
            context = torch.zeros(b, g)
            if len(past):
                weight = F.softmax(torch.bmm(self.transform(u).unsqueeze(1), past.permute(1, 2, 0)), dim=2)
                context = torch.bmm(weight, past.transpose(0, 1))[:, 0]
            past = torch.cat([past, state.unsqueeze(0)])
            both = torch.cat([u, context], 1).unsqueeze(1).expand(-1, PARTIES, -1).reshape(b * PARTIES, -1)
            new = self.drop(self.to_party(both, parties.view(b * PARTIES, -1)).view(b, PARTIES, -1))
            parties = parties * (1 - who.unsqueeze(2)) + new * who.unsqueeze(2)
            own = torch.cat([q[i].unsqueeze(0) for i, q in zip(index, parties, strict=True)])
            emotion = self.drop(self.to_emotion(own, emotion))
            emotions = torch.cat([emotions, emotion.unsqueeze(0)])
        return emotions


class PlainDialogueRnn(nn.Module):
    def __init__(self, dim: int, model: Section, classes: int):
        super().__init__()
        self.directions = nn.ModuleList(PlainDirection(dim, model["context"]) for _ in range(2))
        width = 2 * model["context"]["emotion_dim"]
        self.match, self.embed = nn.Linear(width, width), nn.Linear(width, model["hidden_dim"])
        self.classify, self.drop = nn.Linear(model["hidden_dim"], classes), nn.Dropout(model["dropout"])
        self.drop_emotion = nn.Dropout(model["dropout"] + 0.15)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        x, mask, lengths = batch["x"].transpose(0, 1), batch["mask"].float(), batch["mask"].sum(1).tolist()
        speaker = (F.one_hot(batch["speaker"], PARTIES) * batch["mask"].unsqueeze(-1)).float().transpose(0, 1)
        ahead = self.drop_emotion(self.directions[0](x, speaker))
        back = self.directions[1](reversed_dialogues(x, lengths), reversed_dialogues(speaker, lengths))
        e = torch.cat([ahead, self.drop_emotion(reversed_dialogues(back, lengths))], dim=-1)
        z = self.drop(F.relu(self.embed(attended(e, self.match, mask))))
        scores = F.log_softmax(self.classify(z), 2).transpose(0, 1)
        return F.nll_loss(scores[batch["mask"]], batch["label"][batch["mask"]])


def edges_of(length: int, past: int, future: int) -> list[tuple[int, int]]:
    """Sender and receiver of every edge of one dialogue."""
    found: set[tuple[int, int]] = set()
    for i in range(length):
        found = found.union({(i, j) for j in range(max(0, i - past), min(length, i + future + 1))})
    return list(found)


def graph(batch: dict[str, Tensor], past: int, future: int, weights: Tensor | None = None):
    """Edges (2 E) of all dialogues, their relations (E), and their weights (E), listed one by one."""
    index, kinds, norms, before = [], [], [], 0
    for d, length in enumerate(batch["mask"].sum(1).tolist()):
        for i, j in edges_of(length, past, future):
            index.append(torch.tensor([before + i, before + j]))
            if weights is not None:
                norms.append(weights[d, i, j])
            speakers = (batch["speaker"][d, i].item(), batch["speaker"][d, j].item())
            kinds.append(2 * (PARTIES * speakers[0] + speakers[1]) + (i >= j))
        before += length
    return torch.stack(index).T, torch.tensor(kinds), torch.stack(norms) if norms else None


def relational(x: Tensor, edges: Tensor, kinds: Tensor, weight: Tensor) -> Tensor:
    """sum_r mean_i W_r x_i. weight: r d o."""
    out = torch.zeros(len(x), weight.shape[2])
    for r in range(len(weight)):
        i, j = edges[:, kinds == r]
        count = torch.zeros(len(x)).index_add(0, j, torch.ones(len(j))).clamp(min=1)
        out = out + torch.zeros_like(x).index_add(0, j, x[i]) / count.unsqueeze(1) @ weight[r]
    return out


class PlainDialogueGcn(nn.Module):
    def __init__(self, dim: int, model: Section, classes: int):
        super().__init__()
        context, sizes = model["context"], model["graph"]
        self.past, self.future = sizes["window_past"], sizes["window_future"]
        dropout, width, dim_out = model["dropout"], 2 * context["hidden"], sizes["dim"]
        self.context = nn.LSTM(dim, context["hidden"], context["layers"], bidirectional=True, dropout=dropout)
        self.edge = nn.Linear(width, sizes["positions"], bias=False)
        self.bases = nn.Parameter(0.01 * torch.randn(sizes["bases"], width, dim_out))
        self.mix = nn.Parameter(torch.randn(2 * PARTIES**2, sizes["bases"]))
        self.itself, self.again = nn.Linear(width, dim_out), nn.Linear(dim_out, dim_out)
        self.neighbours = nn.Linear(dim_out, dim_out, bias=False)
        self.match = nn.Linear(width + dim_out, width + dim_out)
        self.embed, self.classify = nn.Linear(width + dim_out, dim_out), nn.Linear(dim_out, classes)
        self.drop = nn.Dropout(dropout)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        x, _ = self.context(batch["x"].transpose(0, 1))  # n b d
        alpha = F.softmax(self.edge(x), dim=0).permute(1, 2, 0)  # b positions n
        near = torch.full_like(alpha, 1e-10)
        lengths = batch["mask"].sum(1).tolist()
        listed = [[d, i, j] for d, n in enumerate(lengths) for i, j in edges_of(n, self.past, self.future)]
        near[tuple(torch.tensor(listed).T)] = 1
        weights = alpha * near / (alpha * near).sum(-1, keepdim=True)
        edges, kinds, _ = graph(batch, self.past, self.future, weights)  # today's library takes no weights of edges
        nodes = torch.cat([x[:n, d] for d, n in enumerate(lengths)])
        weight = (self.mix @ self.bases.flatten(1)).view(-1, *self.bases.shape[1:])
        h = relational(nodes, edges, kinds, weight) + self.itself(nodes)
        h = self.neighbours(torch.zeros_like(h).index_add(0, edges[1], h[edges[0]])) + self.again(h)
        states = nn.utils.rnn.pad_sequence(torch.cat([nodes, h], dim=-1).split(lengths))  # n b d
        z = self.drop(F.relu(self.embed(attended(states, self.match, batch["mask"].float()))))
        scores = F.log_softmax(self.classify(z), 2).transpose(0, 1)
        return F.nll_loss(scores[batch["mask"]], batch["label"][batch["mask"]])


class PlainCogmen(nn.Module):
    def __init__(self, dim: int, model: Section, classes: int):
        super().__init__()
        self.past, self.future, out = model["window_past"], model["window_future"], model["dim"]
        heads = next((h for h in range(7, 15) if dim % h == 0), 1)
        layer = nn.TransformerEncoderLayer(dim, heads, model["context_ff"], model["dropout"], batch_first=True)
        self.context = nn.TransformerEncoder(layer, model["context_layers"], enable_nested_tensor=False)
        self.project = nn.Linear(dim, out)
        self.weight = nn.Parameter(0.1 * torch.randn(2 * PARTIES**2, out, out))
        self.itself = nn.Linear(out, out)
        self.query, self.key, self.value, self.skip = (nn.Linear(out, out) for _ in range(4))
        self.norm, self.drop = nn.BatchNorm1d(out), nn.Dropout(model["dropout"])
        self.embed, self.classify = nn.Linear(out, out), nn.Linear(out, classes)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        x = self.project(self.context(batch["x"]))[batch["mask"]]  # the Transformer attends to padding
        edges, kinds, _ = graph(batch, self.past, self.future)
        i, j = edges
        x = relational(x, edges, kinds, self.weight) + self.itself(x)
        score = (self.query(x)[j] * self.key(x)[i]).sum(-1) / x.shape[1] ** 0.5
        score = (score - score.max()).exp()
        share = score / torch.zeros(len(x)).index_add(0, j, score)[j]
        x = torch.zeros_like(x).index_add(0, j, share.unsqueeze(1) * self.value(x)[i]) + self.skip(x)
        z = self.drop(F.relu(self.embed(F.leaky_relu(self.norm(x)))))
        return F.nll_loss(F.log_softmax(self.classify(z), 1), batch["label"][batch["mask"]])
