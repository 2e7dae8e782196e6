"""Lines in two splits: the sparse products against a loop over all pairs, and what counts as the same line."""

from collections import Counter

import numpy as np
import pytest

from merlib.data import duplicates
from merlib.data.duplicates import NEAR, WORDS, words

VOCABULARY = "i you no yes really think that we should go there now ok".split()


@pytest.fixture(scope="module")
def drawn() -> tuple[list[str], np.ndarray, np.ndarray]:
    """Texts of few words, some without any, with variations of one another; labels, some missing; what trains."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(VOCABULARY, rng.integers(0, 9))) for _ in range(120)]
    texts += [f"{texts[i].upper()}!" for i in rng.integers(0, 120, 40)]
    texts += [" ".join(rng.permutation(texts[i].split())[1:]) for i in rng.integers(0, 120, 60)]
    return texts, rng.integers(-1, 4, len(texts)), rng.random(len(texts)) < 0.6


def alike(a: list[str], b: list[str], near: bool) -> float:
    """The likeness of two lists of words, 0 where it does not count."""
    if not a or not b:
        return 0.0
    jaccard = len({*a} & {*b}) / len({*a} | {*b})
    return jaccard * (jaccard >= NEAR) if near else float(a == b)


@pytest.mark.parametrize("near", [False, True])
def test_lines_of_training_are_those_of_a_loop_over_all_pairs(drawn, near):
    texts, labels, training = drawn
    lines = duplicates.lines(texts)[near]
    stands_in, guess = lines.stands_in(training), lines.guess(training, labels)
    assert lines.long.tolist() == [len(words(text)) >= WORDS for text in texts] and 0 < lines.long.sum() < len(texts)
    found, spoken = 0, [words(text) for text in texts]
    for i, text in enumerate(texts):
        likeness = np.array([alike(spoken[i], other, near) for other in spoken]) * training
        assert stands_in[i] == (likeness.max() > 0), text
        labelled = likeness * (labels >= 0)
        nearest = Counter(labels[(labelled == labelled.max()) & (labelled > 0)].tolist()).most_common()
        best = {label for label, n in nearest if n == nearest[0][1]} or {-1}
        assert guess[i] in best, text
        found += stands_in[i] and not training[i]
    assert found > 10


def test_case_and_punctuation_make_no_other_line_and_apostrophes_do():
    lines, _ = duplicates.lines(
        ["Well, I don't KNOW that!", "well i don't know that", "well i dont know that", "", "!?"]
    )
    assert lines.line[0] == lines.line[1] != lines.line[2] and lines.line[3:].tolist() == [-1, -1]
    assert not lines.stands_in(np.ones(5, bool))[3:].any(), "what has no words stands nowhere"


def test_a_corpus_without_texts_has_no_lines():
    both = np.ones(2, bool)
    for lines in duplicates.lines(["", ""]):
        assert not lines.stands_in(both).any() and (lines.guess(both, np.zeros(2, int)) == -1).all()
