"""ICCN's objective (Sun et al. 2020): deep canonical correlation (Andrew et al. 2013).

Shapes: N utterances, k width of a view.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from merlib.losses.hff import HffLoss


def mean_correlation(x: Tensor, y: Tensor, *, ridge: float) -> Tensor:
    """The mean canonical correlation of two views (N k each): trace norm of S_xx^(-1/2) S_xy S_yy^(-1/2), over k.

    Cholesky factors stand for the roots, which leaves the singular values as they are. ridge: added to the variances.
    Fewer utterances than k can always be correlated: a batch should hold more.
    """
    x, y = (view.double() - view.double().mean(0) for view in (x, y))
    n, k = x.shape
    floor = ridge * torch.eye(k, dtype=x.dtype, device=x.device)
    s_xx, s_yy, s_xy = (a.T @ b / max(n - 1, 1) for a, b in ((x, x), (y, y), (x, y)))
    root_x, root_y = torch.linalg.cholesky(s_xx + floor), torch.linalg.cholesky(s_yy + floor)
    half = torch.linalg.solve_triangular(root_x, s_xy, upper=False)
    both = torch.linalg.solve_triangular(root_y, half.T, upper=False)
    return torch.linalg.svdvals(both).sum() / k


class IccnLoss(nn.Module):
    """Cross-entropy of the scores - correlation times the mean canonical correlation of the two views.

    With one view (text and one other modality) there is nothing to correlate, and cross-entropy alone is left.
    class_counts, class_weights and binary are those of HffLoss, which costs the scores.
    """

    def __init__(
        self,
        *,
        class_counts: Sequence[float] | Tensor,
        class_weights: str,
        binary: str,
        correlation: float,
        ridge: float,
    ):
        super().__init__()
        if ridge <= 0:
            raise ValueError(f"ridge {ridge} leaves covariances that cannot be inverted: give a positive number")
        self.decide = HffLoss(class_counts=class_counts, class_weights=class_weights, kl=0.0, binary=binary)
        self.correlation, self.ridge = correlation, ridge

    def forward(self, outputs: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
        """outputs: `logits` N c [, `logits_binary` N 2], `view_audio` and `view_visual` N k."""
        parts = self.decide(outputs, target)
        views = [view for name, view in outputs.items() if name.startswith("view_")]
        if len(views) < 2:
            return parts
        correlation = mean_correlation(*views, ridge=self.ridge).to(parts["loss"].dtype)
        return parts | {"loss": parts["loss"] - self.correlation * correlation, "correlation": correlation}
