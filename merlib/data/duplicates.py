"""Lines that stand in two splits of a corpus: word for word, or nearly so.

Two lines are the same in lower case without punctuation, and near where the Jaccard index of their sets of words, those
in common over those in either, is `NEAR` or more. That a line of fewer words than `WORDS` stands elsewhere is no
evidence of anything: everyone says "okay". Shapes: u utterances, l different lines, c classes.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

WORDS = 5
NEAR = 0.7
BLOCK = 512  # lines that are compared with all others at a time


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return re.findall(r"[\w']+", text.lower())


@dataclass(frozen=True)
class Lines:
    """The lines of a corpus, and which of them are alike."""

    line: np.ndarray  # u: the number of each utterance's line; -1 where it has no words
    long: np.ndarray  # u: whether it has enough words
    likeness: sparse.csr_matrix  # l l: 1 for itself, above 0 for lines that are alike

    def stands_in(self, part: np.ndarray) -> np.ndarray:
        """Whether the line of each utterance (u bools) is like one of those of `part` (u bools)."""
        present = np.zeros(self.likeness.shape[0])
        present[self.line[part & (self.line >= 0)]] = 1
        return self._of_utterances(self.likeness @ present > 0, False)

    def guess(self, part: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The most frequent label (u) of the most similar lines of `part`; -1 where none is alike or has a label."""
        chosen = part & (self.line >= 0) & (labels >= 0)
        size = self.likeness.shape[0], int(labels.max(initial=0)) + 1
        if not chosen.any():
            return np.full(len(self.line), -1)
        votes = sparse.csr_matrix((np.ones(chosen.sum()), (self.line[chosen], labels[chosen])), size)  # l c
        likeness = self.likeness.multiply(np.asarray(votes.sum(axis=1)).T > 0).tocoo()
        best = likeness.max(axis=1).toarray()[:, 0]  # l
        nearest = (likeness.data == best[likeness.row]) & (likeness.data > 0)
        places = likeness.row[nearest], likeness.col[nearest]
        won = sparse.csr_matrix((np.ones(nearest.sum()), places), likeness.shape) @ votes
        return self._of_utterances(np.where(best > 0, np.asarray(won.argmax(axis=1))[:, 0], -1), -1)

    def _of_utterances(self, values: np.ndarray, otherwise: bool | int) -> np.ndarray:
        """The value (l) of each utterance's line, u; `otherwise` where it has no words."""
        return np.append(values, otherwise)[self.line]


def lines(texts: Iterable[str]) -> tuple[Lines, Lines]:
    """The lines of the texts of a corpus (u), first with those alike that are the same, then with those near."""
    spoken = [words(text) for text in texts]
    different = {line: i for i, line in enumerate(dict.fromkeys(" ".join(w) for w in spoken if w))}
    line = np.array([different[" ".join(w)] if w else -1 for w in spoken], dtype=int)
    long = np.array([len(w) >= WORDS for w in spoken], dtype=bool)
    same = sparse.identity(len(different), format="csr")
    return Lines(line, long, same), Lines(line, long, _near(list(different)))


def _near(different: list[str]) -> sparse.csr_matrix:
    """The Jaccard index of each two lines where it is `NEAR` or more, l l."""
    from sklearn.feature_extraction.text import CountVectorizer

    if not different:
        return sparse.csr_matrix((0, 0))
    has = CountVectorizer(analyzer=str.split, binary=True, dtype=np.int32).fit_transform(different)  # l words
    size = np.asarray(has.sum(axis=1))[:, 0]
    blocks = []
    for start in range(0, len(different), BLOCK):
        common = (has[start : start + BLOCK] @ has.T).tocoo()
        index = common.data / (size[start + common.row] + size[common.col] - common.data)
        near = index >= NEAR
        shape = common.shape
        blocks.append(sparse.csr_matrix((index[near], (common.row[near], common.col[near])), shape))
    return sparse.vstack(blocks, format="csr")
