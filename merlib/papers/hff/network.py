"""HFF: three levels of fusion, then a classifier for each task (Sec. 3.2-3.3, Fig. 1).

Shapes: b dialogues, n utterances, m modalities, d = dim, c classes; B sequences of s steps, which are dialogues and
their utterances, or utterances and their modalities. Masks are True on real positions.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from merlib.errors import RequestError, one_of
from merlib.layers.basics import perceptron
from merlib.papers.hff.level_one import ALIGNMENTS
from merlib.papers.hff.levels_two_and_three import ATTENTIONS, POOLINGS, TEMPORALS
from merlib.registry import bind, part

VERSION = 1


def over_dialogue(fuse: Callable[..., Tensor], tokens: Tensor, aligned: Tensor, mask: Tensor) -> Tensor:
    """The sequence is the dialogue: f0 of eq. (18), one vector for each utterance. Returns b n d."""
    return fuse(tokens.sum(-2), aligned, mask)


def over_modalities(fuse: Callable[..., Tensor], tokens: Tensor, aligned: Tensor, mask: Tensor) -> Tensor:
    """The sequence is one utterance's modalities; f1 is added to each, and the last step is the result, b n d."""
    x = tokens.flatten(0, 1)  # b n m d -> B s d
    every = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    return fuse(x, aligned.flatten(0, 1).unsqueeze(1), every)[:, -1].unflatten(0, mask.shape)


SEQUENCES = {"dialogue": over_dialogue, "modality": over_modalities}


def classifiers(
    *, dim: int, classes: int, sentiment: bool, layers: int, hidden: int, dropout: float, mosei_output: str
) -> nn.ModuleDict:
    """A perceptron for each output (eqs. 29-30). With sentiment, mosei_output says which outputs there are."""
    tasks = {"heads": {"logits": classes, "logits_binary": 2}, "regression": {"logits": 1}}
    task = one_of(tasks, mosei_output, "option of model.classifier.mosei_output")
    head = {"width": dim, "hidden": hidden, "layers": layers, "dropout": dropout}
    outputs = task if sentiment else {"logits": classes}
    return nn.ModuleDict({name: perceptron(**head, out=count) for name, count in outputs.items()})


class Hff(nn.Module):
    """The network. `forward` returns `logits` b n c, `embedding` b n d (f_final of eq. 28) and, where level 1 has them,
    `weights` b n m (alpha), `variance` b n m (mean over d of sigma_m^2 + epsilon) and `kl` b n (for the loss).

    dims: modality -> width of its features, any subset of the three. With sentiment, mosei_output "heads" gives
    `logits_binary` b n 2 too (negative, the rest), "regression" the score alone, `logits` b n 1.
    """

    SHOWN = ("weights", "variance")

    def __init__(
        self, *, dims: dict[str, int], classes: int, sentiment: bool, dim: int, dropout: float, sequence: str,
        alignment: dict[str, Any], attention: dict[str, Any], temporal: dict[str, Any], pooling: dict[str, Any],
        classifier: dict[str, Any],
    ):  # fmt: skip
        super().__init__()
        if sequence == "modality" and alignment["name"] == "concat":
            raise RequestError("alignment 'concat' leaves one vector an utterance: there is no sequence of modalities")
        self.over = one_of(SEQUENCES, sequence, "option of model.sequence")
        given = {"dim": dim, "dropout": dropout}
        self.align = part(ALIGNMENTS, alignment, "model.alignment", dims=dims, **given)  # level 1
        self.interact = part(ATTENTIONS, attention, "model.attention", **given)  # level 2
        self.drop = nn.Dropout(dropout)
        self.temporal = part(TEMPORALS, temporal, "model.temporal", **given)  # level 3
        self.pool = part(POOLINGS, pooling, "model.pooling", **given)
        task = {"classes": classes, "sentiment": sentiment}
        self.classify = bind(classifiers, classifier, what="model.classifier", dim=dim, **task)

    def levels_two_and_three(self, f0: Tensor, f1: Tensor, mask: Tensor) -> Tensor:
        """f0: B s d; f1: B s d or B 1 d; mask: B s. Returns B s d."""
        f2 = self.interact(f0, f1, mask)  # eqs. 21-23
        return self.pool(self.temporal(self.drop(f2), mask), mask)  # eqs. 24-28

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        level_one = self.align(batch)  # eqs. 16-20
        tokens, aligned = level_one.pop("tokens"), level_one.pop("aligned")
        z = self.over(self.levels_two_and_three, tokens, aligned, batch["mask"])  # b n d
        return {name: classify(z) for name, classify in self.classify.items()} | {"embedding": z} | level_one
