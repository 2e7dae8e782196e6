"""HFF: hierarchical fusion of modalities and of a dialogue, by the trust that each modality earns."""

NETWORKS = {"hff": "merlib.papers.hff.network:Hff"}
LOSSES = {"hff": "merlib.papers.hff.loss:HffLoss"}
