"""The files of a lab for the tests of prepared tables, and the order in which its utterances are read."""

import numpy as np

TOML = """
corpus = "iemocap6"
name = "a lab"
utterances = "utterances.csv"
unlabelled = "drop"
[columns]
utterance = "utt"
dialogue = "dia"
turn = "pos"
speaker = "who"
label = "emo"
split = "fold"
text = "said"
start = "from"
[labels]
0 = "happy"
fru = "frustrated"
xxx = ""
[split]
dev = "val"
[features.audio]
file = "audio.npz"
ids = "utt"
values = "is10"
modality = "audio"
extractor = "openSMILE IS10"
version = "2.3"
weights_sha256 = ""
trained_on = "nothing"
fitted_on = "train"
"""
CSV = """utt,dia,pos,who,emo,fold,said,from
b2,Ses01F_b,7,01M,fru,train,NA,2.5
b1,Ses01F_b,3,01F,0.0,train,"caf\u00e9, no",
a1,Ses02F_a,0,02F,0,dev,yes,1
a2,Ses02F_a,1,02M,xxx,dev,hm,2
a3,Ses02F_a,2,02F,,dev,hm,3
c1,Ses05F_c,0,05F,fru,test,so,1
"""
ORDER = ["b1", "b2", "a1", "c1"]
STORED = ["c1", "extra", "a1", "b2", "b1"]
VALUES = np.arange(10, dtype=np.float64).reshape(5, 2)
