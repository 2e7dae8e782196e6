"""MultiEMO and its objective in the plain style of the released code: what benchmarks/training_step.py compares with.

Every dialogue is padded to the longest and padding is attended, each head has linear layers of its own, GRU cells go
turn by turn, one modality and direction after the other, SWFC goes utterance by utterance and Soft-HGR forms N x N
covariances. The sizes are those of the released IEMOCAP script. Shapes: b dialogues, n utterances, N labelled ones.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.papers.mfcre.loss import class_weights_swfc

DIM, HEADS, FF, LAYERS, SPEAKERS, DROPOUT = 256, 4, 1024, 6, 2, 0.1


class PlainContext(nn.Module):
    """Bidirectional DialogueRNN, one cell after the other."""

    def __init__(self):
        super().__init__()
        self.cells = nn.ModuleList(
            nn.ModuleDict(
                {
                    "global": nn.GRUCell(2 * DIM, DIM),
                    "party": nn.GRUCell(2 * DIM, DIM),
                    "emotion": nn.GRUCell(DIM, DIM),
                    "score": nn.Linear(DIM, 1, bias=False),
                }
            )
            for _ in range(2)
        )
        self.out = nn.Linear(2 * DIM, DIM)

    def walk(self, cell: nn.ModuleDict, u: Tensor, speaker: Tensor) -> Tensor:
        b, n, _ = u.shape
        everyone = torch.arange(b, device=u.device)
        parties, e = u.new_zeros(b, SPEAKERS, DIM), u.new_zeros(b, DIM)
        g, history, emotions = u.new_zeros(b, DIM), u.new_zeros(b, 0, DIM), []
        for t in range(n):
            who = speaker[:, t]
            new_g = cell["global"](torch.cat([u[:, t], parties[everyone, who]], dim=1), g)
            c = u.new_zeros(b, DIM) if t == 0 else (cell["score"](history).softmax(dim=1) * history).sum(1)
            heard = torch.cat([u[:, t], c], dim=1)[:, None].expand(-1, SPEAKERS, -1).flatten(0, 1)
            spoken = cell["party"](heard, parties.flatten(0, 1)).view_as(parties)
            chosen = F.one_hot(who, SPEAKERS)[..., None].to(u.dtype)
            parties = spoken * chosen + parties * (1 - chosen)
            e = cell["emotion"](parties[everyone, who], e)
            g, history = new_g, torch.cat([history, new_g[:, None]], dim=1)
            emotions.append(e)
        return torch.stack(emotions, dim=1)

    def forward(self, x: Tensor, speaker: Tensor, mask: Tensor) -> Tensor:
        at = torch.arange(mask.shape[1], device=x.device).expand_as(mask)
        back = torch.where(mask, mask.sum(1, keepdim=True) - 1 - at, at)  # b n
        forward = self.walk(self.cells[0], x, speaker)
        reverse = self.walk(self.cells[1], x.take_along_dim(back[..., None], 1), speaker.take_along_dim(back, 1))
        return F.relu(self.out(torch.cat([forward, reverse.take_along_dim(back[..., None], 1)], dim=-1)))


class PlainAttention(nn.Module):
    """A layer for every head's query, key and value; no mask."""

    def __init__(self):
        super().__init__()
        size = DIM // HEADS
        self.heads = nn.ModuleList(nn.ModuleList(nn.Linear(DIM, size) for _ in range(3)) for _ in range(HEADS))
        self.out = nn.Linear(DIM, DIM)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        found = []
        for query, key, value in self.heads:
            score = query(x) @ key(source).mT / (DIM // HEADS) ** 0.5
            found.append(score.softmax(-1) @ value(source))
        return self.out(torch.cat(found, dim=-1))


class PlainLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend = nn.ModuleList(PlainAttention() for _ in range(2))
        self.feed_forward = nn.Sequential(nn.Linear(DIM, FF), nn.ReLU(), nn.Linear(FF, DIM), nn.Dropout(DROPOUT))
        self.norms = nn.ModuleList(nn.LayerNorm(DIM) for _ in range(3))
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        x = self.norms[0](x + self.drop(self.attend[0](x, first)))
        x = self.norms[1](x + self.drop(self.attend[1](x, second)))
        return self.norms[2](x + self.drop(self.feed_forward(x)))


class PlainMultiEmo(nn.Module):
    def __init__(self, *, dims: dict[str, int], classes: int):
        super().__init__()
        self.project = nn.ModuleDict({name: nn.Linear(width, DIM) for name, width in dims.items()})
        self.context = nn.ModuleDict({name: PlainContext() for name in dims})
        self.stacks = nn.ModuleDict({name: nn.ModuleList(PlainLayer() for _ in range(LAYERS)) for name in dims})
        self.embed = nn.Linear(3 * DIM, DIM)
        self.classify = nn.Sequential(nn.Linear(DIM, DIM), nn.ReLU(), nn.Linear(DIM, classes))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = {
            name: self.context[name](p(batch[name]), batch["speaker"], batch["mask"])
            for name, p in self.project.items()
        }
        fused = []
        for name, stack in self.stacks.items():
            y, others = x[name], [x[other] for other in x if other != name]
            for layer in stack:
                y = layer(y, *others)
            fused.append(y)
        z = self.embed(torch.cat(fused, dim=-1))
        return {"logits": self.classify(z), "embedding": z, "fused": torch.stack(fused, dim=2)}


def plain_loss(outputs: dict[str, Tensor], label: Tensor, *, recipe: dict, class_counts: Tensor) -> Tensor:
    """The "code" variant of merlib.papers.mfcre.loss.Contrastive."""
    z, n = F.normalize(outputs["embedding"], dim=-1), len(label)
    weights = class_weights_swfc(class_counts, recipe["alpha"])
    swfc = z.new_zeros(())
    for i in range(n):
        others, labels = torch.cat([z[:i], z[i + 1 :]]), torch.cat([label[:i], label[i + 1 :]])
        s = ((z[i].expand_as(others) * others).sum(-1) / recipe["tau"]).softmax(0)[labels == label[i]]
        if len(s):
            swfc = swfc - weights[label[i]] * ((1 - s) ** recipe["gamma"] * s.log()).mean() / n
    hgr = z.new_zeros(())
    for i, j in ((0, 1), (0, 2), (1, 2)):
        q, v = outputs["fused"][:, i], outputs["fused"][:, j]
        hgr = hgr - ((q * v).sum(-1).mean() - torch.trace(torch.cov(q) @ torch.cov(v)) / n / 2) / n
    mu = recipe["mu_swfc"], recipe["mu_hgr"]
    return mu[0] * swfc + mu[1] * hgr + (1 - sum(mu)) * F.cross_entropy(outputs["logits"], label)
