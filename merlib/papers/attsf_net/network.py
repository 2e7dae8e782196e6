"""ATTSF-Net: cross-attention between audio and video (CMB), a learnable token attending to both (SAB), and an auxiliary
branch per modality (AVAM), whose vector is added to that of the main branch (Sec. III, Fig. 1).

Shapes: b utterances, t steps of a modality, l = length, d = dim, c classes (1 where the target is a score). Masks are
True on real steps. Every reading of the paper is a leaf; what is chosen and why stands in the paper's notes.
"""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from merlib import registry
from merlib.errors import one_of
from merlib.papers.attsf_net.cross_attention import CMBS, SABS, NoSab
from merlib.papers.attsf_net.encoders import Encoder
from merlib.papers.attsf_net.transformer import AVAMS
from merlib.pretrained.weights import located

VERSION = 2


class Sum(nn.Module):
    """ATTSF-Net: the vectors of main and auxiliary branch are added (eq. 19)."""

    def forward(self, main: Tensor, auxiliary: Tensor) -> Tensor:
        return main + auxiliary


class L2(nn.Module):
    """ATTSF-L2: each vector is weighted by its share of the sum of both L2 norms (eqs. 20-21)."""

    def forward(self, main: Tensor, auxiliary: Tensor) -> Tensor:
        norms = torch.stack([main.norm(dim=-1), auxiliary.norm(dim=-1)], dim=-1)  # b 2
        weight = norms / norms.sum(-1, keepdim=True).clamp(min=torch.finfo(norms.dtype).tiny)
        return weight[:, :1] * main + weight[:, 1:] * auxiliary


GATES = {"softmax": partial(torch.softmax, dim=-1), "sigmoid": torch.sigmoid, "raw": nn.Identity()}


class Gate(nn.Module):
    """ATTSF-Gat: a linear layer over both vectors gives their two weights (the Learning Layer of Fig. 3)."""

    def __init__(self, *, dim: int, gate: str):
        super().__init__()
        self.learn = nn.Linear(2 * dim, 2)
        self.weigh = one_of(GATES, gate, "option of model.fusion.gate")

    def forward(self, main: Tensor, auxiliary: Tensor) -> Tensor:
        weight = self.weigh(self.learn(torch.cat([main, auxiliary], dim=-1)))  # b 2
        return weight[:, :1] * main + weight[:, 1:] * auxiliary


FUSIONS = {"sum": Sum, "l2": L2, "gate": Gate}


class AttsfNet(nn.Module):
    """The network. `forward` returns `logits` b c, `embedding` b (k d) and what the loss reads: `logits_<modality>` b c
    of the auxiliary heads, `main_<modality>` b d (pooled: x_{v->a} of video, x_{a->v} of audio) and `token` b d.

    dims, steps: of each modality. Text has an auxiliary branch only, which joins at the concatenation (Sec. IV-B); with
    text alone that is the whole network. Audio or video without the other attends to itself, or has an auxiliary
    branch only (`model.cmb.unimodal`). transformer: what the layers of CMB, SAB and AVAM share.
    """

    @staticmethod
    def starting_weights(section: dict[str, Any], modalities: Collection[str]) -> dict[str, list[Path]]:
        """Leaf -> the file of the video encoder that a network of this section starts from."""
        visual = section["encoder"]["visual"]
        pretrained = "visual" in modalities and visual["name"] == "efficientface" and visual["weights"] != "none"
        return {"encoder.visual.weights": [located(visual["weights"])]} if pretrained else {}

    def __init__(
        self, *, dims: dict[str, int], steps: dict[str, int], classes: int, sentiment: bool, dim: int, dropout: float,
        encoder: dict[str, Any], transformer: dict[str, Any], cmb: dict[str, Any], sab: dict[str, Any],
        avam: dict[str, Any], fusion: dict[str, Any],
    ):  # fmt: skip
        super().__init__()
        dims = {name: dims[name] for name in ("text", "audio", "visual") if name in dims}
        self.pair = [name for name in dims if name != "text"]
        shared = {"dim": dim, "dropout": dropout, "transformer": transformer}

        given = {"dims": dims, "steps": steps, "dim": dim, "dropout": dropout}
        self.encoder = registry.bind(Encoder, encoder, what="model.encoder", **given)
        self.cmb = registry.part(CMBS, cmb, "model.cmb", names=self.pair, **shared)
        main = [*self.cmb.sources]  # modalities with a main branch
        length = self.encoder.length
        self.sab = registry.part(SABS, sab, "model.sab", length=length, **shared) if main else NoSab()
        self.avam = registry.part(AVAMS, avam, "model.avam", names=[*dims], main=main, **shared)
        auxiliary = self.avam.names  # modalities with an auxiliary branch
        self.fuse = nn.ModuleDict(
            {name: registry.part(FUSIONS, fusion, "model.fusion", dim=dim) for name in main if name in auxiliary}
        )

        width = 1 if sentiment else classes
        with_head = [name for name in auxiliary if name in main or (name == "text" and self.avam.text_head)]
        streams = len({*auxiliary, *main}) + self.sab.classify
        heads = {name: nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, width)) for name in with_head}
        self.heads = nn.ModuleDict(heads)
        self.classify = nn.Sequential(nn.Dropout(dropout), nn.Linear(streams * dim, width))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = self.encoder(batch)  # b t w -> b l d
        pair = {name: x[name] for name in self.pair}
        auxiliary = self.avam(x)  # b l d -> b d, x*_a and x*_v
        main = {name: h.mean(1) for name, h in self.cmb(pair).items()}  # b l d -> b d, x_{a->v} and x_{v->a}
        token = self.sab(pair)  # b d, x*_learn
        fused = {name: fuse(main[name], auxiliary[name]) for name, fuse in self.fuse.items()}
        streams = [*(auxiliary | main | fused).values(), *(token.values() if self.sab.classify else ())]
        z = torch.cat(streams, dim=-1)  # b (k d)
        out = {"logits": self.classify(z), "embedding": z} | token
        out |= {f"main_{name}": h for name, h in main.items()}
        return out | {f"logits_{name}": head(auxiliary[name]) for name, head in self.heads.items()}
