"""ATTSF-Net: attention-based similarity fusion of audio, video and text of an utterance."""

NETWORKS = {"attsf_net": "merlib.papers.attsf_net.network:AttsfNet"}
LOSSES = {"attsf_net": "merlib.papers.attsf_net.loss:AttsfLoss"}
