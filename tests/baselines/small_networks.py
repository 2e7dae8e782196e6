"""Every baseline at a small size, and a padded batch for it."""

import torch
from building import changed
from building import network_of as network_of_section
from torch import Tensor, nn

WIDTHS = {"text": 6, "audio": 5, "visual": 4}
CLASSES, PARTIES, LENGTHS = 5, 3, (5, 1, 3, 4)
HIDDEN = {"text_hidden": 7, "audio_hidden": 5, "visual_hidden": 6}
MEMORY = HIDDEN | {"dim": 5, "attention_dim": 6, "proposal_dim": 7, "retain_dim": 6, "update_dim": 5}
RNN = {
    "name": "dialoguernn", "hidden_dim": 7, "emotion_attention": True, "dropout": 0.1,
    "context": {
        "global_dim": 5, "party_dim": 6, "emotion_dim": 4, "attention": {"name": "simple", "hidden": 3},
        "listener": False, "recurrent_dropout": 0.1,
    },
}  # fmt: skip
GCN = {
    "name": "dialoguegcn", "nodal_attention": True, "mask_padding": True, "dropout": 0.1,
    "context": {
        "name": "lstm", "hidden": 4, "layers": 2, "global_dim": 5, "party_dim": 6, "recurrent_dropout": 0.1,
    },
    "graph": {"dim": 5, "bases": 3, "positions": 8, "window_past": 1, "window_future": 2},
}  # fmt: skip
COGMEN = {
    "name": "cogmen", "context_layers": 1, "context_heads": 0, "context_ff": 8, "dim": 6, "window_past": 2,
    "window_future": 1, "graph_heads": 2, "mask_padding": True, "dropout": 0.1,
}  # fmt: skip
EMO = {
    "name": "multiemo", "dim": 8, "text_context": True, "head": {"hidden": 8}, "mask_padding": True, "dropout": 0.1,
    "context": {
        "name": "dialoguernn", "directions": 2, "global_dim": 5, "party_dim": 6, "emotion_dim": 8,
        "recurrent_dropout": 0.1,
    },
    "fusion": {"layers": 2, "heads": 2, "ff": 8},
}  # fmt: skip
FUSION = {  # networks on utterances
    "tfn": HIDDEN | {"name": "tfn", "text_out": 4, "fusion_dim": 6, "dropout": 0.1, "fusion_dropout": 0.1},
    "lmf": HIDDEN | {"name": "lmf", "text_out": 4, "rank": 3, "dropout": 0.1},
    "mfn": {"name": "mfn", "memory": MEMORY, "head_dim": 6, "dropout": 0.1, "head_dropout": 0.1},
    "mfm": {
        "name": "mfm", "memory": MEMORY, "codes": WIDTHS | {"label": 5}, "factors": WIDTHS | {"label": 6},
        "dropout": 0.1, "head_dropout": 0.1,
    },
    "iccn": HIDDEN | {"name": "iccn", "kernel": 3, "channels": 2, "view_dim": 4, "dropout": 0.1},
    "pooled_mlp": {"name": "pooled_mlp", "hidden": 6, "dropout": 0.1},
}  # fmt: skip
SPEAKERS = {  # networks on dialogues that read who speaks
    "dialoguernn": RNN,
    "dialoguernn, general": changed(RNN, {"context.attention.name": "general"}),
    "dialoguernn, concat, listeners": changed(RNN, {"context.attention.name": "concat", "context.listener": True}),
    "dialoguernn, no emotion attention": changed(RNN, {"emotion_attention": False}),
    "dialoguegcn": GCN,
    "dialoguegcn, gru": changed(GCN, {"context.name": "gru", "nodal_attention": False}),
    "dialoguegcn, dialoguernn": changed(GCN, {"context.name": "dialoguernn", "graph.window_past": -1}),
    "dialoguegcn, whole dialogue": changed(GCN, {"graph.window_past": -1, "graph.window_future": -1}),
    "cogmen": COGMEN,
    "multiemo": EMO,
    "multiemo, as on meld": changed(EMO, {"text_context": False, "context.directions": 1}),
}
DIALOGUES = SPEAKERS | {
    "multiemo, no context": changed(EMO, {"context.name": "none"}),
    "concat_mlp": {"name": "concat_mlp", "hidden": 6, "dropout": 0.1},
    "bigru": {"name": "bigru", "hidden": 4, "layers": 2, "dropout": 0.1},
}
NETWORKS = FUSION | DIALOGUES
IN_STEP = ("mfn", "mfm")  # all modalities need the same steps


def network_of(network: str, names=tuple(WIDTHS), *, sentiment=False) -> nn.Module:
    dims = {name: WIDTHS[name] for name in names}
    given = {"classes": 7 if sentiment else CLASSES, "speakers": PARTIES, "sentiment": sentiment}
    net = network_of_section(NETWORKS[network], dims=dims, **given)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm1d):  # as after some training
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return net


def batch_of(network: str, names=tuple(WIDTHS)) -> dict[str, Tensor]:
    """Four dialogues or utterances padded beyond the longest; the padding holds noise that must not be seen."""
    torch.manual_seed(1)
    mask = torch.arange(max(LENGTHS) + 1) < torch.tensor(LENGTHS)[:, None]
    x = {name: torch.randn(*mask.shape, WIDTHS[name], dtype=torch.double) for name in names}
    if network in DIALOGUES:
        return x | {"mask": mask, "speaker": torch.randint(PARTIES, mask.shape) * mask}
    if network == "pooled_mlp":  # which reads pooled utterances
        return {name: values[:, :1] for name, values in x.items()} | {f"{name}_mask": mask[:, :1] for name in names}
    shift = {name: 0 if network in IN_STEP else i for i, name in enumerate(names)}
    return x | {f"{name}_mask": mask.roll(shift[name], dims=0) for name in names}
