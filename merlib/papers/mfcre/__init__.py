"""MFCRE: contextual xLSTM-based multimodal fusion of the utterances of a dialogue."""

NETWORKS = {"mfcre": "merlib.papers.mfcre.network:Mfcre"}
LOSSES = {"contrastive": "merlib.papers.mfcre.loss:Contrastive"}
