"""ATTSF-Net: audio and video ask one another, a token asks both, and what each says by itself is added (Sec. III, Fig. 1).

Shapes: b utterances, t steps of a modality, l = length, d = dim, c classes (1 where the target is a score). Masks are True on real
steps. Every reading of the paper is a keyword; what is chosen and why stands in the paper's notes.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.models.attsf_blocks import Cmb, CmbLayer, EncoderLayer, Sab, SabLayer, SimilarityEnhancement
from merlib.models.attsf_encoders import TO_LENGTH, AudioCnn, Augment, Faces, Vectors
from merlib.models.mfcre import sinusoid
from merlib.models.reasoning import choose

LETTERS = {"text": "T", "audio": "A", "visual": "V"}


class Embed(nn.Module):
    """One modality: its encoder, LSTM and Conv1d to l steps, and a position code (Sec. III-B, Fig. 1). b t w -> b l d.

    A batch is padded further, to the longest utterance of the corpus, so that no result depends on batch mates. From here on every
    sequence has all its l steps and no mask.
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
    """Audio-Visual Auxiliary Module: a transformer encoder over one modality alone, then its mean (Sec. III-E): b l d -> b d.

    Without layers it is the temporal pooling of ref. [27] (Table VIII).
    """

    def __init__(self, *layers: EncoderLayer):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mean(1)


FUSIONS_HERE = None


class AttsfNet(nn.Module):
    """The network. `forward` returns `logits` b c, `embedding` b (k d) and what the loss reads: `logits_<modality>` b c of the
    auxiliary heads, `main_<modality>` b d (x_{v->a} of the video branch, x_{a->v} of the audio branch, pooled) and `token` b d.

    dims, steps: of each modality. Text has only an auxiliary branch, which joins at the concatenation (Sec. IV-B); with text alone
    that is the whole network. Of audio and video one alone asks itself (`unimodal="self"`), or keeps only its auxiliary branch
    ("auxiliary"). Table VII: auxiliary "V" or "A" (the letters that have a module), sab "none".
    """

    def __init__(
        self, *, dims: dict[str, int], steps: dict[str, int], classes: int, sentiment: bool, dim: int, length: int,
        audio_encoder: str, audio_channels: list[int], audio_kernel: int, audio_stride: int, audio_padding: int, audio_pool: int,
        audio_pool_stride: int, visual_encoder: str, visual_weights: str, freeze_visual: bool, flip_horizontal: bool,
        flip_vertical: bool, rotate_degrees: float, center_crop: float, temporal: str, to_length: str, conv_kernel: int, position: str,
        cmb: str, cmb_layers: int, cmb_ff: int, cmb_key: str, cmb_kv: str, cross_heads: int, self_heads: int,
        sab: str, sab_layers: int, sab_ff: int, sab_query: str, sab_tokens: str, avam: str, avam_layers: int, avam_ff: int,
        auxiliary: str, text_head: bool, unimodal: str, fusion: str, gate: str, classify_token: bool, activation: str,
        dropout: float, residual_dropout: float,
    ):  # fmt: skip
        super().__init__()
        pair = [name for name in ("audio", "visual") if name in dims]
        self.pair = pair
