"""MPAF-Net: recurrent encoders of text, speech and face of an utterance, and their attention fusion."""

NETWORKS = {
    "mpaf_net": "merlib.papers.mpaf_net.network:MpafNet",
    "concat_lstm": "merlib.papers.mpaf_net.network:ConcatLstm",
}
LOSSES = {"focal": "merlib.papers.mpaf_net.loss:Focal"}
