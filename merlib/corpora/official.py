"""What the corpora are known by: classes in label order, and official counts per split. Numbers only.

Totals are those of MFCRE Table 1; the counts per split are those of the releases. IEMOCAP names no validation
dialogues, so there train and val count together.
"""

SPLITS = ("train", "val", "test")
SIX = ("happy", "sad", "neutral", "angry", "excited", "frustrated")
LABELS = {
    "iemocap6": SIX,
    "iemocap6_majority": SIX,
    "meld": ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"),
}
CLASSES = {  # utterances of each class, in label order
    "iemocap6": {"train+val": (504, 839, 1324, 933, 742, 1468), "test": (144, 245, 384, 170, 299, 381)},
    "iemocap6_majority": {"train+val": (452, 839, 1324, 933, 742, 1468), "test": (143, 245, 384, 170, 299, 381)},
    "meld": {
        "train": (4710, 1205, 268, 683, 1743, 271, 1109),
        "val": (470, 150, 40, 111, 163, 22, 153),
        "test": (1256, 281, 50, 208, 402, 68, 345),
    },
}
DIALOGUES = {
    "iemocap6": {"train+val": 120, "test": 31},
    "iemocap6_majority": {"train+val": 120, "test": 31},
    "meld": {"train": 1038, "val": 114, "test": 280},
}
REMEDY = {
    "iemocap6": "Its 7433 utterances, 648 of them happy, are the conversational release: IEMOCAP_features.pkl, or a "
    "prepared table made from it. The majority labels of the raw release give 7380 with 595 happy: they are "
    "iemocap6_majority, and the two are never mixed.",
    "iemocap6_majority": "Its 7380 utterances, 595 of them happy, are the full raw release: Session1 to Session5 with "
    "every file of dialog/EmoEvaluation and dialog/transcriptions.",
    "meld": "Its 13708 utterances are train_sent_emo.csv, dev_sent_emo.csv and test_sent_emo.csv, unchanged.",
}
ACCESS = {
    "iemocap6": "IEMOCAP: a signed release form at https://sail.usc.edu/iemocap/ (USC; no redistribution), or the "
    "public features of conv-emotion, IEMOCAP_features.pkl, whose labels this task's 7433 utterances need anyway.",
    "iemocap6_majority": "IEMOCAP: a signed release form at https://sail.usc.edu/iemocap/ (USC; no redistribution).",
    "meld": "MELD (GPL-3): three CSV files in data/MELD of github.com/declare-lab/MELD; clips in MELD.Raw.tar.gz.",
}
