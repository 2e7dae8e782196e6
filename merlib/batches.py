"""Dialogues on the device: flat feature arrays, and index tables that turn them into padded, masked batches.

Shapes: b dialogues, n turns (padded), d the width of a modality, u utterances of the split. Masks are True on real positions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from merlib.features.roots import Dataset

MODALITIES = ("text", "audio", "visual")
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Dialogues:
    """One split. `rows` (b n) points into the flat arrays, -1 where a dialogue has ended."""

    features: dict[str, Tensor]  # modality -> u d
    label: Tensor  # u, -1 unlabelled
    speaker: Tensor  # u, index of the party in its dialogue, by order of first appearance
    rows: Tensor  # b n
    lengths: Tensor  # b, on the CPU
    ids: tuple[str, ...]  # u

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, dialogues: Tensor) -> Batch:
        """The named dialogues (indices, on the CPU), padded to the longest of them; `label` is -1 and the rest 0 on padding."""
        rows = self.rows[dialogues.to(self.rows.device), : int(self.lengths[dialogues].max())]  # b n
        mask = rows >= 0
        at = rows.clamp(min=0)
        batch = {name: values[at] * mask.unsqueeze(-1) for name, values in self.features.items()}  # b n d
        return batch | {"mask": mask, "speaker": self.speaker[at] * mask, "label": self.label[at].where(mask, -1)}

    def buckets(self, dialogues: Tensor, size: int) -> Iterator[Batch]:
        """The named dialogues in batches of at most `size` of similar length, so that little is padded."""
        for part in dialogues[self.lengths[dialogues].argsort(stable=True)].split(size):
            yield self.batch(part)


def dims(split: Dialogues) -> dict[str, int]:
    return {name: values.shape[-1] for name, values in split.features.items()}


def splits(
    dataset: Dataset, *, arrays: dict[str, str], standardize: bool, validation: str = "corpus", device: str = "cpu"
) -> dict[str, Dialogues]:
    """train, val and test of a corpus as dialogues on the device.

    arrays: modality -> name of the feature array; a modality whose array the corpus does not have is left out.
    standardize: z-scores per feature, fitted on the training split alone.
    validation: "corpus" takes the corpus's own split, "random_5_percent" draws from train and val together, by a fixed seed, as
        the released code of MultiEMO and MFCRE does.
    Raises ValueError when no modality is left or a split is empty.
    """
    table = dataset.corpus.table
    names = split_names(table, validation)
    features = {m: dataset.features[arrays[m]].values for m in MODALITIES if arrays.get(m) in dataset.features}
    if not features:
        raise ValueError(
            f"{dataset.corpus.name}: none of {arrays} is there; it has {sorted(dataset.features)}. Run `merlib doctor`."
        )
    train = torch.from_numpy(names == "train")
    if standardize:
        features = {m: _standardized(torch.as_tensor(v).float(), train) for m, v in features.items()}
    return {name: _dialogues(table, names == name, features, device) for name in ("train", "val", "test")}


def split_names(table, validation: str) -> np.ndarray:
    """The split of each utterance under a validation reading."""
    names = table["split"].to_numpy(str)
    if validation == "corpus":
        return names
    if validation != "random_5_percent":
        raise ValueError(f"validation {validation!r}: there are 'corpus' and 'random_5_percent'")
    pool = table.loc[names != "test", "dialogue"].unique()
    drawn = np.random.default_rng(2023).permutation(pool)[: max(1, round(0.05 * len(pool)))]
    return np.where(names == "test", "test", np.where(table["dialogue"].isin(drawn), "val", "train"))


def _standardized(values: Tensor, train: Tensor) -> Tensor:
    mean, std = values[train].mean(0), values[train].std(0)
    return (values - mean) / std.where(std > 1e-6, 1.0)


def _dialogues(table, chosen: np.ndarray, features: dict[str, Tensor], device: str) -> Dialogues:
    if not chosen.any():
        raise ValueError("a split has no utterance; check the `split` column of the corpus (`merlib doctor`)")
    part = table[chosen]
    dialogue = part["dialogue"].factorize()[0]
    turn = part.groupby("dialogue", sort=False).cumcount().to_numpy()
    lengths = np.bincount(dialogue)
    rows = np.full((len(lengths), lengths.max()), -1)
    rows[dialogue, turn] = np.arange(len(part))
    speaker = (
        part.groupby("dialogue", sort=False)["speaker"].transform(lambda names: names.factorize()[0]).to_numpy(np.int64)
    )
    at = torch.from_numpy(np.flatnonzero(chosen))
    return Dialogues(
        features={m: torch.as_tensor(v)[at].float().to(device) for m, v in features.items()},
        label=torch.tensor(part["label"].to_numpy(np.int64), device=device),
        speaker=torch.tensor(speaker, device=device),
        rows=torch.tensor(rows, device=device),
        lengths=torch.from_numpy(lengths),
        ids=tuple(part["utterance"]),
    )
