"""Facts of the corpora: their names, classes in label order, official counts per split, and how to get each corpus.

Totals of IEMOCAP-6 and MELD are those of MFCRE Table 1; the counts per split are those of the releases. IEMOCAP names
no validation dialogues, so there train and val count together. Where every protocol draws its own split, only the
group `all` (train, val and test together) is counted.

The sentiment corpora score every utterance in [-3, 3]; their classes are the seven integers (`sentiment_class`).
"""

import numpy as np

SPLITS = ("train", "val", "test")
GROUPS = {"train+val": ("train", "val"), "all": SPLITS}  # groups of splits that are counted together
SENTIMENT = ("mosi", "mosei")
NAMES = {
    "iemocap6": "IEMOCAP-6", "iemocap6_majority": "IEMOCAP-6 (majority labels)", "iemocap4": "IEMOCAP-4",
    "iemocap8": "IEMOCAP-8", "meld": "MELD", "ravdess": "RAVDESS", "mosi": "CMU-MOSI", "mosei": "CMU-MOSEI",
}  # fmt: skip
SIX = ("happy", "sad", "neutral", "angry", "excited", "frustrated")
SCORES = ("-3", "-2", "-1", "0", "1", "2", "3")
LABELS = {
    "iemocap6": SIX,
    "iemocap6_majority": SIX,
    "iemocap4": ("happy", "sad", "neutral", "angry"),  # happy includes excited
    "iemocap8": ("angry", "excited", "fearful", "frustrated", "happy", "neutral", "sad", "surprised", "disgust"),
    "meld": ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"),
    "ravdess": ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"),
    "mosi": SCORES,
    "mosei": SCORES,
}
CLASSES = {  # utterances per class, in label order
    "iemocap6": {"train+val": (504, 839, 1324, 933, 742, 1468), "test": (144, 245, 384, 170, 299, 381)},
    "iemocap6_majority": {"train+val": (452, 839, 1324, 933, 742, 1468), "test": (143, 245, 384, 170, 299, 381)},
    "iemocap4": {"all": (595 + 1041, 1084, 1708, 1103)},
    "iemocap8": {"all": (1103, 1041, 40, 1849, 595, 1708, 1084, 107, 2)},
    "meld": {
        "train": (4710, 1205, 268, 683, 1743, 271, 1109),
        "val": (470, 150, 40, 111, 163, 22, 153),
        "test": (1256, 281, 50, 208, 402, 68, 345),
    },
    "ravdess": {"all": (96, 192, 192, 192, 192, 192, 192, 192)},
}
BY_SPEAKER = {  # utterances per class, in label order, of each speaker of the raw release
    "iemocap8": {
        "01F": (147, 63, 5, 107, 69, 171, 78, 15, 0), "01M": (82, 80, 7, 173, 66, 213, 116, 10, 1),
        "02F": (67, 96, 5, 165, 70, 135, 113, 8, 0), "02M": (70, 114, 4, 160, 47, 227, 84, 9, 0),
        "03F": (92, 48, 2, 199, 80, 130, 172, 15, 0), "03M": (148, 103, 0, 183, 55, 190, 133, 13, 1),
        "04F": (205, 154, 2, 188, 31, 76, 62, 11, 0), "04M": (122, 84, 5, 293, 34, 182, 81, 8, 0),
        "05F": (78, 82, 8, 161, 77, 221, 132, 7, 0), "05M": (92, 217, 2, 220, 66, 163, 113, 11, 0),
    },
}  # fmt: skip
UTTERANCES = {  # where the classes are not counted; those of MOSEI are HFF Table 1
    "mosi": {"all": 2199},  # four of them have no score
    "mosei": {"train": 16327, "val": 1871, "test": 4662},
}
SCORED = {"mosi": 2195, "mosei": 22856}  # least number of utterances with a score
SPEAKERS = dict.fromkeys(("iemocap4", "iemocap6", "iemocap6_majority", "iemocap8"), "0[1-5][FM]")  # session and sex
SPEAKERS["ravdess"] = "0[1-9]|1[0-9]|2[0-4]"
SCRIPTS = dict.fromkeys(("iemocap4", "iemocap6", "iemocap6_majority", "iemocap8"), r"_(script\d\d_\d)")
SCRIPTS["ravdess"] = r"^(?:\d\d-){4}(\d\d)"  # what is spoken from a script, by the ids: play and scene, or sentence
ALSO = {"mosei": {"train": 16326, "test": 4659}}  # the published feature files leave a few utterances out
DIALOGUES = {
    "iemocap6": {"train+val": 120, "test": 31},
    "iemocap6_majority": {"train+val": 120, "test": 31},
    "iemocap4": {"all": 151},
    "iemocap8": {"all": 151},
    "meld": {"train": 1038, "val": 114, "test": 280},
    "ravdess": {"all": 1440},  # every clip is a dialogue of its own
    "mosi": {"all": 93},  # the videos; those of MOSEI are not counted
}
MAJORITY_RELEASE = "the full raw release: Session1 to Session5 with every file of dialog/EmoEvaluation and "
MAJORITY_RELEASE += "dialog/transcriptions, and the majority labels of its raters."
REMEDY = {
    "iemocap6": "Its 7433 utterances, 648 of them happy, are the conversational release: IEMOCAP_features.pkl, or a "
    "prepared table made from it. The majority labels of the raw release give 7380 with 595 happy: they are "
    "iemocap6_majority, and the two are never mixed.",
    "iemocap6_majority": f"Its 7380 utterances, 595 of them happy, are {MAJORITY_RELEASE}",
    "iemocap4": f"Its 5531 utterances, 1041 of the 1636 happy being excited, are {MAJORITY_RELEASE} The labels of the "
    "conversational release, with 648 happy, are another list.",
    "iemocap8": f"Its 7529 utterances, two of them disgust, are {MAJORITY_RELEASE}",
    "meld": "Its 13708 utterances are train_sent_emo.csv, dev_sent_emo.csv and test_sent_emo.csv, unchanged.",
    "ravdess": "Its 1440 clips are the speech of all 24 actors, 60 each (03-01-*, or 01-01-* with video); the songs, "
    "03-02-*, are not among them.",
    "mosi": "Its 2199 utterances of 93 videos, four without a score, are the full release.",
    "mosei": "Its 16327, 1871 and 4662 utterances are the standard folds of the CMU-Multimodal SDK as HFF Table 1 "
    "counts them.",
}
SIGNED = "IEMOCAP: a signed release form at https://sail.usc.edu/iemocap/ (USC; no redistribution)"
ACCESS = {
    "iemocap6": f"{SIGNED}, or the public features of conv-emotion, IEMOCAP_features.pkl, which also has the "
    "labels of the 7433 utterances of iemocap6.",
    "iemocap6_majority": f"{SIGNED}.",
    "iemocap4": f"{SIGNED}.",
    "iemocap8": f"{SIGNED}.",
    "meld": "MELD (GPL-3): three CSV files in data/MELD of github.com/declare-lab/MELD; clips in MELD.Raw.tar.gz.",
    "ravdess": "RAVDESS (CC BY-NC-SA 4.0): Audio_Speech_Actors_01-24.zip and Video_Speech_Actor_*.zip at "
    "https://zenodo.org/records/1188976.",
    "mosi": "CMU-MOSI (research only): the CMU-MultimodalSDK, github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK, has "
    "features and labels; videos are given on request by the MultiComp Lab of Carnegie Mellon University.",
    "mosei": "CMU-MOSEI (research only): the CMU-MultimodalSDK, github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK, has "
    "features, labels and the standard folds.",
}
# Whether a score is in the second class of ACC-2; with "excluded", scores of zero do not count at all.
ABOVE = {"nonnegative": lambda score: score >= 0} | dict.fromkeys(("positive", "excluded"), lambda score: score > 0)


def classes_of(corpus: str, n: int) -> tuple[int, ...] | None:
    """The utterances of each class in the group of splits that has n in all; None where none has."""
    return next((classes for classes in CLASSES.get(corpus, {}).values() if sum(classes) == n), None)


def sentiment_class(score: np.ndarray) -> np.ndarray:
    """Index into `SCORES` of each score: clip(round(score), -3, 3) + 3, and -1 where the score is NaN.

    numpy rounds halves to the even neighbour: 0.5 is class "0", 1.5 and 2.5 are class "2".
    """
    score = np.asarray(score, dtype=np.float64)
    return np.where(np.isnan(score), -1, np.clip(np.round(score), -3, 3) + 3).astype(np.int64)
