"""A corpus: one table of utterances, the same columns for every corpus; and a feature array on its way into a file.

Columns, one row per utterance, dialogues one after the other and turns in order within each:

    utterance  unique id                          label       index into `Corpus.labels`, -1 for none
    dialogue   id of the conversation             split       train, val or test
    turn       0, 1, 2, ... within the dialogue   start, end  seconds, NaN when unknown
    speaker    name or code of the speaker        text, audio, video  transcript; media paths below the source; or ""
    score      sentiment in [-3, 3] of the corpora `official.SENTIMENT`, whose labels follow from it; NaN elsewhere
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from merlib.data.official import SPLITS
from merlib.errors import MerlibError

DTYPES = {
    "utterance": "str", "dialogue": "str", "turn": "int64", "speaker": "str", "label": "int64", "split": "str",
    "start": "float64", "end": "float64", "text": "str", "audio": "str", "video": "str", "score": "float64",
}  # fmt: skip
MODALITIES = ("text", "audio", "visual")


class CorpusError(MerlibError, ValueError):
    """A corpus that is not as expected; the message says what was found, what was expected and what to do."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """A corpus: its table (columns: see the module), its classes in label order, and its source."""

    name: str
    labels: tuple[str, ...]
    table: pd.DataFrame
    source: str

    @property
    def ids(self) -> tuple[str, ...]:
        """Utterance ids in table order: the order of every feature array."""
        return tuple(self.table["utterance"])

    def counts(self) -> dict:
        """Utterances, dialogues and utterances of each class, per split, as plain integers."""
        parts = {s: self.table[self.table["split"] == s] for s in SPLITS}
        return {
            "utterances": {s: len(part) for s, part in parts.items()},
            "dialogues": {s: part["dialogue"].nunique() for s, part in parts.items()},
            "classes": {
                s: [int((part["label"] == i).sum()) for i in range(len(self.labels))] for s, part in parts.items()
            },
        }


@dataclass(frozen=True, eq=False)
class Array:
    """One value (n, ...) per utterance, in table order, and what its passport records of its origin.

    Sequences have `lengths` (n, int64), the steps of each utterance, at least one: then the values are
    (sum of lengths, ...), the steps of one utterance one after the other, utterances in table order.

    `trained_on` names the data and labels that the extractor was trained on; `fitted_on` names the split on which any
    further fit, such as a projection or a normalisation, was made. Both are "unknown" when a release does not say.
    `failed` names the utterances whose recording could not be used: their rows are zeros. `inputs` is a hash of what an
    extraction read and of its settings, so that nothing is computed twice. `layers_above` counts the layers of the
    encoder above the one that these states come from (0: they are the encoder's last states).
    """

    values: np.ndarray
    modality: str
    extractor: str
    version: str = "unknown"
    weights_sha256: str = ""
    trained_on: str = "unknown"
    fitted_on: str = "unknown"
    lengths: np.ndarray | None = None
    failed: tuple[str, ...] = ()
    inputs: str = ""
    layers_above: int = 0
