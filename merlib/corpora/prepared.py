"""A prepared table: one short TOML file maps a lab's own table and features to ours. No code, no pickle.

    corpus = "iemocap6"                # a name in merlib.data.official.LABELS, which gives the classes and counts
    name = "our features, 2024"        # free text, kept as the corpus' source
    utterances = "utterances.csv"      # one row per utterance, UTF-8; paths are relative to this file
    unlabelled = "drop"                # rows without a class: "drop", or "keep" them as context (the default)

    [columns]                          # ours = "theirs"; these four are needed. Optional: split, start, end, text,
    utterance = "utt"                  # audio, video, and turn (only its order matters; else that of the rows)
    dialogue = "dialogue"
    speaker = "speaker"                # IEMOCAP: 01F to 05M, session and sex; RAVDESS: 01 to 24
    label = "emotion"                  # mosi and mosei have `score` in [-3, 3] instead, and no [labels]

    [labels]                           # their value = "our class", or "" for none; an empty cell is none. Several
    hap = "happy"                      # values may share a class, as hap and exc do in iemocap4

    [split]                            # with a split column: their value = train, val or test
    dev = "val"                        # (values that are ours already need no entry)

    [dialogues]                        # or, without that column: the dialogues of val and test; the others train
    val = ["Ses01F_impro01"]           # (without either, IEMOCAP tests on Session 5 and takes our default val, and
    test = ["Ses05F_impro01"]          # RAVDESS is fold 0 of the protocol `actors`)

    [features.audio]                   # any number of arrays; `audio` is the feature's name
    file = "audio.npz"                 # npz: `ids` and `values` are keys. npy: `ids` is a text file, one id a line.
    ids = "utt"                        # csv: `ids` is a column and `values` a list of columns (default: the others)
    values = "is10"
    divide = 255                       # optional: values / 255 as floats, for frames stored as bytes
    time_axis = 1                      # optional: values are sequences, (n, t, d), or (n, d, t) with 2
    lengths = "steps"                  # optional: real steps (npz: a key, npy: a text file); the rest is padding
    modality = "audio"                 # text, audio or visual
    extractor = "openSMILE IS10"       # the passport: the extractor of the values,
    version = "2.3"                    # its version,
    weights_sha256 = ""                # the hash of its weights ("" if it has none),
    trained_on = "nothing"             # the data and labels that it was trained on,
    fitted_on = "nothing"              # and the split that any later fit has seen

An array may hold more utterances than the table, in any order: its rows are matched by id.
"""

import tomllib
from pathlib import Path

from merlib.corpora import prepared_arrays, prepared_rows
from merlib.corpora.reading import read_csv, require_keys
from merlib.data.official import LABELS, SENTIMENT
from merlib.data.table import Array, Corpus, CorpusError, build

__all__ = ["read", "read_csv"]
NEEDED = {"corpus", "name", "utterances", "columns"}
OPTIONAL = {"unlabelled", "split", "dialogues", "features"}


def read(path: Path) -> tuple[Corpus, dict[str, Array]]:
    """The corpus, and the feature arrays (float32, in table order), that the TOML file `path` describes."""
    path = Path(path)
    try:
        about = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CorpusError(
            f"{path}: {error}. Expected a TOML file as in the docstring of merlib.corpora.prepared."
        ) from None
    labels = set() if about.get("corpus") in SENTIMENT else {"labels"}
    require_keys(about, NEEDED | labels, OPTIONAL, str(path))
    if about["corpus"] not in LABELS or about.get("unlabelled", "keep") not in ("keep", "drop"):
        declared = f"corpus = {about['corpus']!r}, unlabelled = {about.get('unlabelled', 'keep')!r}"
        raise CorpusError(f"{path}: {declared}; expected one of {sorted(LABELS)}, and keep or drop.")
    rows = prepared_rows.rows(about, path)
    try:
        corpus = build(about["corpus"], rows, source=f"prepared: {about['name']}")
    except CorpusError as error:
        raise CorpusError(f"{path.parent / about['utterances']}, as {error}") from None
    features = about.get("features", {}).items()
    return corpus, {
        name: prepared_arrays.array(spec, corpus.ids, path.parent, f"{path} [features.{name}]")
        for name, spec in features
    }
