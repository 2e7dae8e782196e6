"""The released MultiEMO, its two losses and its batches, read from a user's checkout of github.com/TaoShi1998/MultiEMO.

Tried with commit e96458b. The network has its IEMOCAP sizes and the dropout and loss weights of our recipe. Only the
folders Model and Loss of the checkout are read. Left out: its reading of pickled features and its scores.
"""

import importlib
import sys
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

DIM, SPEAKERS = 256, 2


class ReleasedMultiEmo(nn.Module):
    """`forward` takes our padded batch and returns the outputs of the network in the checkout."""

    def __init__(self, *, checkout: Path, dims: dict[str, int], classes: int, recipe: dict, device: str):
        super().__init__()
        sys.path[:0] = [str(checkout / "Model"), str(checkout / "Loss")]
        fusion, dropout = recipe["fusion"], recipe["dropout"]
        self.network = importlib.import_module("MultiEMO_Model").MultiEMO(
            "IEMOCAP", True, dims["text"], fusion["ff"], dropout, fusion["layers"], DIM, fusion["heads"],
            dims["audio"], dims["visual"], DIM, DIM, DIM, DIM, classes, SPEAKERS, False, "simple", DIM, 0.0, device,
        )  # fmt: skip

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
        mask = batch["mask"]
        speakers = F.one_hot(batch["speaker"], SPEAKERS) * mask.unsqueeze(-1)
        features = [batch[name].transpose(0, 1) for name in ("text", "audio", "visual")]  # n b d
        return self.network(*features, speakers.transpose(0, 1).float(), mask.float(), batch["label"].flatten())


class ReleasedLoss(nn.Module):
    """The sum of Train/TrainMultiEMO.py, with the weights of a recipe's section `loss`."""

    def __init__(self, *, recipe: dict, class_counts: Tensor, device: str):
        super().__init__()
        swfc = importlib.import_module("SampleWeightedFocalContrastiveLoss").SampleWeightedFocalContrastiveLoss
        self.swfc = swfc(recipe["tau"], recipe["gamma"], recipe["alpha"], "IEMOCAP", class_counts, device)
        self.soft_hgr = importlib.import_module("SoftHGRLoss").SoftHGRLoss()
        self.mu = recipe["mu_swfc"], recipe["mu_hgr"]

    def forward(self, outputs: tuple[Tensor, ...], label: Tensor) -> Tensor:
        *fused, z, logits = outputs
        label = label[label >= 0]
        rest = (1 - sum(self.mu)) * F.cross_entropy(logits, label)
        return self.mu[0] * self.swfc(z, label) + self.mu[1] * self.soft_hgr(*fused) + rest
