"""ATTSF-Net: audio and video ask one another, a token asks both, and each one's own word is added (Sec. III, Fig. 1).

Shapes: b utterances, t steps of a modality, l = length, d = dim, c classes (1 where the target is a score). Masks are
True on real steps. Every reading of the paper is a keyword; what is chosen and why stands in the paper's notes.
"""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.declarations.schema import LETTERS
from merlib.errors import one_of
from merlib.layers.attention import sinusoid
from merlib.papers.attsf_net.blocks import Cmb, CmbLayer, EncoderLayer, Sab, SabLayer, SimilarityEnhancement
from merlib.papers.attsf_net.encoders import TO_LENGTH, AudioCnn, Augment, Faces, FaceVectors, Vectors
from merlib.pretrained.weights import located

VERSION = 1


class Embed(nn.Module):
    """One modality: its encoder, LSTM and Conv1d to l steps, and a position code (Sec. III-B, Fig. 1). b t w -> b l d.

    A batch is padded further, to the longest utterance of the corpus, so that no result depends on batch mates. From
    here on every sequence has all its l steps and no mask.
    """

    def __init__(self, *, encoder: nn.Module, to_length: nn.Module, steps: int, position: Tensor, dropout: float):
        super().__init__()
        self.encoder, self.to_length, self.steps = encoder, to_length, steps
        self.position, self.drop = position, nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        short = self.steps - x.shape[1]
        x, mask = F.pad(x, (0, 0, 0, short)), F.pad(mask, (0, short))
        return self.drop(self.to_length(*self.encoder(x, mask)) + self.position)


def learned(length: int, dim: int) -> Tensor:
    return nn.Parameter(0.02 * torch.randn(length, dim))


def waves(length: int, dim: int) -> Tensor:
    return nn.Buffer(sinusoid(torch.zeros(length, dim)), persistent=False)


POSITIONS = {"learned": learned, "sinusoid": waves}


class Avam(nn.Module):
    """Audio-Visual Auxiliary Module: a transformer encoder over one modality, then its mean (Sec. III-E): b l d -> b d.

    Without layers it is the temporal pooling of ref. [27] (Table VIII).
    """

    def __init__(self, *layers: EncoderLayer):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mean(1)


class Sum(nn.Module):
    """ATTSF-Net: the branch and its auxiliary vector are added (eq. 19)."""

    def __init__(self, *, dim: int, gate: str):
        super().__init__()

    def forward(self, main: Tensor, own: Tensor) -> Tensor:
        return main + own


class L2(nn.Module):
    """ATTSF-L2: the two vectors are weighted by their share of both lengths (eqs. 20-21)."""

    def __init__(self, *, dim: int, gate: str):
        super().__init__()

    def forward(self, main: Tensor, own: Tensor) -> Tensor:
        lengths = torch.stack([main.norm(dim=-1), own.norm(dim=-1)], dim=-1)  # b 2
        weight = lengths / lengths.sum(-1, keepdim=True).clamp(min=torch.finfo(lengths.dtype).tiny)
        return weight[:, :1] * main + weight[:, 1:] * own


GATES = {"softmax": partial(torch.softmax, dim=-1), "sigmoid": torch.sigmoid, "raw": nn.Identity()}


class Gate(nn.Module):
    """ATTSF-Gat: a linear layer over both vectors gives their two weights (Fig. 3)."""

    def __init__(self, *, dim: int, gate: str):
        super().__init__()
        self.learn = nn.Linear(2 * dim, 2)
        self.weigh = one_of(GATES, gate, "gate")

    def forward(self, main: Tensor, own: Tensor) -> Tensor:
        weight = self.weigh(self.learn(torch.cat([main, own], dim=-1)))  # b 2
        return weight[:, :1] * main + weight[:, 1:] * own


FUSIONS = {"sum": Sum, "l2": L2, "gate": Gate}


class Without(nn.Module):
    """In the place of a block that is not there: nothing."""

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        return {}


class AttsfNet(nn.Module):
    """The network. `forward` returns `logits` b c, `embedding` b (k d) and what the loss reads: `logits_<modality>` b c
    of the auxiliary heads, `main_<modality>` b d (pooled: x_{v->a} of video, x_{a->v} of audio) and `token` b d.

    dims, steps: of each modality. Text has an auxiliary branch only, which joins at the concatenation (Sec. IV-B); with
    text alone that is the whole network. Audio or video without the other asks itself (`unimodal="self"`), or keeps
    its auxiliary branch only ("auxiliary"). Table VII: `auxiliary` names the letters that have a module, sab "none".
    """

    @staticmethod
    def starting_weights(section: dict[str, Any], modalities: Collection[str]) -> dict[str, list[Path]]:
        """Leaf -> the file of the picture encoder that a network of this section starts from."""
        learns = section["visual_encoder"] == "efficientface" and section["visual_weights"] != "none"
        return {"visual_weights": [located(section["visual_weights"])]} if learns and "visual" in modalities else {}

    def __init__(
        self, *, dims: dict[str, int], steps: dict[str, int], classes: int, sentiment: bool, dim: int, length: int,
        audio_encoder: str, audio_channels: list[int], audio_kernel: int, audio_stride: int, audio_padding: int,
        audio_pool: int, audio_pool_stride: int, visual_encoder: str, visual_weights: str, freeze_visual: bool,
        flip_horizontal: bool, flip_vertical: bool, rotate_degrees: float, center_crop: float,
        temporal: str, to_length: str, conv_kernel: int, position: str,
        cmb: str, cmb_layers: int, cmb_ff: int, cmb_key: str, cmb_kv: str, cross_heads: int, self_heads: int,
        sab: str, sab_layers: int, sab_ff: int, sab_query: str, sab_tokens: str,
        avam: str, avam_layers: int, avam_ff: int, auxiliary: str, text_head: bool, unimodal: str,
        fusion: str, gate: str, classify_token: bool, activation: str, dropout: float, residual_dropout: float,
    ):  # fmt: skip
        super().__init__()
        names = [name for name in LETTERS.values() if name in dims]
        self.pair = [name for name in names if name != "text"]
        alone = len(self.pair) == 1 and one_of({"self": False, "auxiliary": True}, unimodal, "unimodal")
        asking = [] if alone else self.pair
        owning = [n for k, n in LETTERS.items() if n in dims and (n == "text" or alone or k in auxiliary)]

        windows = {"kernel": audio_kernel, "stride": audio_stride, "padding": audio_padding}
        pools = {"pool": audio_pool, "pool_stride": audio_pool_stride}
        augment = partial(
            Augment, horizontal=flip_horizontal, vertical=flip_vertical, degrees=rotate_degrees, crop=center_crop
        )
        of_audio = {"cnn": partial(AudioCnn, channels=audio_channels, **windows, **pools), "vectors": Vectors}
        of_video = {
            "efficientface": partial(Faces, weights=visual_weights, freeze=freeze_visual, augment=augment()),
            "vectors": FaceVectors,
        }
        encoders = {
            "text": Vectors,
            "audio": one_of(of_audio, audio_encoder, "audio_encoder"),
            "visual": one_of(of_video, visual_encoder, "visual_encoder"),
        }
        reach = partial(
            one_of(TO_LENGTH, to_length, "to_length"), dim=dim, length=length, temporal=temporal, kernel=conv_kernel
        )
        place = partial(one_of(POSITIONS, position, "position"), length, dim)
        self.embed = nn.ModuleDict()
        for name in names:
            encoder = encoders[name](width=dims[name], steps=steps[name])
            to_l = reach(width=encoder.width, steps=encoder.steps)
            given = {"steps": steps[name], "position": place(), "dropout": dropout}
            self.embed[name] = Embed(encoder=encoder, to_length=to_l, **given)

        drops = {"dropout": dropout, "residual_dropout": residual_dropout}
        encode = partial(EncoderLayer, dim=dim, heads=self_heads, activation=activation, **drops)
        ask = partial(encode, ff=cmb_ff, alone=False)
        cross = partial(CmbLayer, dim=dim, cross_heads=cross_heads, key=cmb_key, encode=ask, **drops)
        cmbs = {
            "cross_attention": partial(Cmb, layers=cmb_layers, kv=cmb_kv, layer=cross),
            "similarity_enhancement": partial(SimilarityEnhancement, dim=dim, heads=cross_heads, ff=cmb_ff),
        }
        self.cmb = one_of(cmbs, cmb, "cmb")(names=asking) if asking else Without()

        tokens = one_of({"one": 1, "length": length}, sab_tokens, "sab_tokens")
        learn = partial(encode, ff=sab_ff, alone=tokens == 1)
        listen = partial(SabLayer, dim=dim, cross_heads=cross_heads, query=sab_query, encode=learn)
        sabs = {"token": partial(Sab, tokens=tokens, dim=dim, layers=sab_layers, layer=listen), "none": Without}
        self.sab = one_of(sabs, sab, "sab")() if asking else Without()

        own = partial(encode, ff=avam_ff, alone=False)
        depth = one_of({"transformer": avam_layers, "temporal_pooling": 0}, avam, "avam")
        self.avam = nn.ModuleDict({name: Avam(*(own() for _ in range(depth))) for name in owning})
        fuse = partial(one_of(FUSIONS, fusion, "fusion"), dim=dim, gate=gate)
        self.fuse = nn.ModuleDict({name: fuse() for name in asking if name in owning})

        width = 1 if sentiment else classes
        self.joined = ["token"] if classify_token and isinstance(self.sab, Sab) else []
        judged = [name for name in owning if (text_head if name == "text" else not alone)]
        streams = len({*owning, *asking}) + len(self.joined)
        self.heads = nn.ModuleDict({name: nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, width)) for name in judged})
        self.classify = nn.Sequential(nn.Dropout(dropout), nn.Linear(streams * dim, width))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = {name: embed(batch[name], batch[f"{name}_mask"]) for name, embed in self.embed.items()}  # b t w -> b l d
        heard = {name: x[name] for name in self.pair}
        own = {name: avam(x[name]) for name, avam in self.avam.items()}  # b l d -> b d, x*_a and x*_v
        main = {name: h.mean(1) for name, h in self.cmb(heard).items()}  # b l d -> b d, x_{a->v} and x_{v->a}
        token = self.sab(heard)  # b d, x*_learn
        fused = own | main | {name: fuse(main[name], own[name]) for name, fuse in self.fuse.items()}
        z = torch.cat([*fused.values(), *(token[name] for name in self.joined)], dim=-1)  # b (k d)
        out = {"logits": self.classify(z), "embedding": z} | token
        out |= {f"main_{name}": h for name, h in main.items()}
        return out | {f"logits_{name}": head(own[name]) for name, head in self.heads.items()}
