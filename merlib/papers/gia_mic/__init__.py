"""GIA-MIC: gated interactive attention and modality-invariant learning on speech, text and video of an utterance."""

NETWORKS = {
    "gia_mic": "merlib.papers.gia_mic.network:GiaMic",
    "concat_pool": "merlib.papers.gia_mic.network:ConcatPool",
}
LOSSES = {"invariant": "merlib.papers.gia_mic.loss:Invariant"}
