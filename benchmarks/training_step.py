"""One training step (forward, loss, backward, optimiser) at MFCRE's IEMOCAP sizes, beside the style it replaces.

    python benchmarks/training_step.py [--device cpu|cuda] [--dialogues 16 64] [--json FILE]

Each network runs in a process of its own, so that peak memory is its own; all share one run, so that the ratio to the
plain network means something on a busy machine. The plain network is MultiEMO written as its released code is: padded
to the longest dialogue, a linear layer for every head, GRU cells turn by turn, SWFC one utterance at a time.
"""

import argparse
import json
import resource
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without an installation too

from merlib.batches import Dialogues
from merlib.losses import build_loss, class_weights_swfc
from merlib.models.baselines.multiemo import MultiEmo
from merlib.models.mfcre import Mfcre
from merlib.training import BUCKET, forward_packed

WIDTHS = {"text": 768, "audio": 512, "visual": 1000}
DIM, HEADS, FF, LAYERS, CLASSES, SPEAKERS, DROPOUT = 256, 4, 1024, 6, 6, 2, 0.1
SHARED = {
    "dims": WIDTHS, "classes": CLASSES, "speakers": SPEAKERS, "dim": DIM, "fusion_layers": LAYERS,
    "fusion_heads": HEADS, "fusion_ff": FF, "head_dim": DIM, "mask_padding": True, "dropout": DROPOUT,
}  # fmt: skip
MULTIEMO = {
    "context": "dialoguernn", "text_context": True, "directions": 2, "global_dim": DIM, "party_dim": DIM,
    "emotion_dim": DIM, "recurrent_dropout": 0.0,
}  # fmt: skip
MFCRE = {
    "context": "dialoguecrn", "cell": "mlstm", "cell_heads": 4, "turns": 3, "attention": "softmax_simam",
    "simam_axis": "channels", "perception": True, "speaker_branch": False, "encoder": "transformers",
    "encoder_layers": 2, "encoder_heads": 4, "encoder_ff": 1024, "merge": "concat", "position": "sinusoid",
    "fusion": "multiattn",
}  # fmt: skip
LOSS = {"name": "contrastive", "mu_swfc": 0.4, "mu_hgr": 0.3, "tau": 0.9, "alpha": 0.8, "gamma": 3.0, "variant": "code"}
NETWORKS = ["plain", "multiemo", "mfcre"]
COUNTS = [504, 839, 1324, 933, 742, 1468]  # of the classes in IEMOCAP's training sessions


class PlainContext(nn.Module):
    """Bidirectional DialogueRNN, one cell after the other."""

    def __init__(self):
        super().__init__()
        self.cells = nn.ModuleList(
            nn.ModuleDict(
                {
                    "global": nn.GRUCell(2 * DIM, DIM),
                    "party": nn.GRUCell(2 * DIM, DIM),
                    "emotion": nn.GRUCell(DIM, DIM),
                    "score": nn.Linear(DIM, 1, bias=False),
                }
            )
            for _ in range(2)
        )
        self.out = nn.Linear(2 * DIM, DIM)

    def walk(self, cell: nn.ModuleDict, u: Tensor, speaker: Tensor) -> Tensor:
        b, n, _ = u.shape
        everyone = torch.arange(b, device=u.device)
        parties, e = u.new_zeros(b, SPEAKERS, DIM), u.new_zeros(b, DIM)
        g, history, emotions = u.new_zeros(b, DIM), u.new_zeros(b, 0, DIM), []
        for t in range(n):
            who = speaker[:, t]
            new_g = cell["global"](torch.cat([u[:, t], parties[everyone, who]], dim=1), g)
            c = u.new_zeros(b, DIM) if t == 0 else (cell["score"](history).softmax(dim=1) * history).sum(1)
            heard = torch.cat([u[:, t], c], dim=1)[:, None].expand(-1, SPEAKERS, -1).flatten(0, 1)
            spoken = cell["party"](heard, parties.flatten(0, 1)).view_as(parties)
            chosen = F.one_hot(who, SPEAKERS)[..., None].to(u.dtype)
            parties = spoken * chosen + parties * (1 - chosen)
            e = cell["emotion"](parties[everyone, who], e)
            g, history = new_g, torch.cat([history, new_g[:, None]], dim=1)
            emotions.append(e)
        return torch.stack(emotions, dim=1)

    def forward(self, x: Tensor, speaker: Tensor, mask: Tensor) -> Tensor:
        at = torch.arange(mask.shape[1], device=x.device).expand_as(mask)
        back = torch.where(mask, mask.sum(1, keepdim=True) - 1 - at, at)  # b n
        forward = self.walk(self.cells[0], x, speaker)
        reverse = self.walk(self.cells[1], x.take_along_dim(back[..., None], 1), speaker.take_along_dim(back, 1))
        return F.relu(self.out(torch.cat([forward, reverse.take_along_dim(back[..., None], 1)], dim=-1)))


class PlainAttention(nn.Module):
    """A layer for every head's query, key and value; no mask."""

    def __init__(self):
        super().__init__()
        size = DIM // HEADS
        self.heads = nn.ModuleList(nn.ModuleList(nn.Linear(DIM, size) for _ in range(3)) for _ in range(HEADS))
        self.out = nn.Linear(DIM, DIM)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        found = []
        for query, key, value in self.heads:
            score = query(x) @ key(source).mT / (DIM // HEADS) ** 0.5
            found.append(score.softmax(-1) @ value(source))
        return self.out(torch.cat(found, dim=-1))


class PlainLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend = nn.ModuleList(PlainAttention() for _ in range(2))
        self.feed_forward = nn.Sequential(nn.Linear(DIM, FF), nn.ReLU(), nn.Linear(FF, DIM), nn.Dropout(DROPOUT))
        self.norms = nn.ModuleList(nn.LayerNorm(DIM) for _ in range(3))
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        x = self.norms[0](x + self.drop(self.attend[0](x, first)))
        x = self.norms[1](x + self.drop(self.attend[1](x, second)))
        return self.norms[2](x + self.drop(self.feed_forward(x)))


class PlainMultiEmo(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.ModuleDict({name: nn.Linear(width, DIM) for name, width in WIDTHS.items()})
        self.context = nn.ModuleDict({name: PlainContext() for name in WIDTHS})
        self.stacks = nn.ModuleDict({name: nn.ModuleList(PlainLayer() for _ in range(LAYERS)) for name in WIDTHS})
        self.embed = nn.Linear(3 * DIM, DIM)
        self.classify = nn.Sequential(nn.Linear(DIM, DIM), nn.ReLU(), nn.Linear(DIM, CLASSES))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = {
            name: self.context[name](p(batch[name]), batch["speaker"], batch["mask"])
            for name, p in self.project.items()
        }
        fused = []
        for name, stack in self.stacks.items():
            y, others = x[name], [x[other] for other in WIDTHS if other != name]
            for layer in stack:
                y = layer(y, *others)
            fused.append(y)
        z = self.embed(torch.cat(fused, dim=-1))
        return {"logits": self.classify(z), "embedding": z, "fused": torch.stack(fused, dim=2)}


def plain_loss(outputs: dict[str, Tensor], label: Tensor) -> Tensor:
    """The "code" variant of merlib.losses.Contrastive, utterance by utterance, with N x N covariances."""
    z, n = F.normalize(outputs["embedding"], dim=-1), len(label)
    weights = class_weights_swfc(torch.tensor(COUNTS, dtype=torch.float32, device=z.device), LOSS["alpha"])
    swfc = z.new_zeros(())
    for i in range(n):
        others, labels = torch.cat([z[:i], z[i + 1 :]]), torch.cat([label[:i], label[i + 1 :]])
        s = ((z[i].expand_as(others) * others).sum(-1) / LOSS["tau"]).softmax(0)[labels == label[i]]
        if len(s):
            swfc = swfc - weights[label[i]] * ((1 - s) ** LOSS["gamma"] * s.log()).mean() / n
    hgr = z.new_zeros(())
    for i, j in ((0, 1), (0, 2), (1, 2)):
        q, v = outputs["fused"][:, i], outputs["fused"][:, j]
        hgr = hgr - ((q * v).sum(-1).mean() - torch.trace(torch.cov(q) @ torch.cov(v)) / n / 2) / n
    entropy = F.cross_entropy(outputs["logits"], label)
    return LOSS["mu_swfc"] * swfc + LOSS["mu_hgr"] * hgr + (1 - LOSS["mu_swfc"] - LOSS["mu_hgr"]) * entropy


def dialogues(count: int, device: str) -> Dialogues:
    """Random features in dialogues as long as IEMOCAP's: 8 to 110 utterances, 49 on average."""
    draw = np.random.default_rng(0)
    lengths = np.rint(8 + 102 * draw.beta(2.4, 3.6, count)).astype(int)
    lengths[0] = 110
    total, turns = int(lengths.sum()), np.arange(110)
    rows = np.full((count, 110), -1)
    rows[turns < lengths[:, None]] = np.arange(total)
    features = {name: draw.standard_normal((total, width), dtype=np.float32) for name, width in WIDTHS.items()}
    return Dialogues(
        features={name: torch.from_numpy(values).to(device) for name, values in features.items()},
        label=torch.from_numpy(draw.integers(CLASSES, size=total)).to(device),
        speaker=torch.from_numpy(draw.integers(SPEAKERS, size=total)).to(device),
        rows=torch.from_numpy(rows).to(device),
        lengths=torch.from_numpy(lengths),
        ids=tuple(map(str, range(total))),
    )


def measure(network: str, count: int, device: str, repeats: int) -> dict[str, float | str]:
    """One network in this process: median seconds of a step after a first one, peak memory in GB."""
    torch.manual_seed(0)
    split, everything = dialogues(count, device), torch.arange(count)
    net = {
        "plain": PlainMultiEmo,
        "multiemo": lambda: MultiEmo(**SHARED, **MULTIEMO),
        "mfcre": lambda: Mfcre(**SHARED, **MFCRE),
    }[network]().to(device)
    bucket = count if network == "plain" else BUCKET[device]
    contrastive = build_loss(LOSS, class_counts=COUNTS).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        outputs, label = forward_packed(net, split, everything, bucket=bucket)
        loss = plain_loss(outputs, label) if network == "plain" else contrastive(outputs, label)["loss"]
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    host = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux
    found = {"network": network, "dialogues": count, "utterances": len(split.label), "threads": torch.get_num_threads()}
    found["seconds"] = statistics.median(seconds[1:])
    found["utterances_per_second"] = found["utterances"] / found["seconds"]
    return found | {"peak_gb": (torch.cuda.max_memory_allocated() if device == "cuda" else host) / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dialogues", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = []
    for count in args.dialogues:
        for network in args.networks:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:  # its peak memory is its own
                row = process.submit(measure, network, count, args.device, args.repeats).result()
            plain = next((r for r in found if r["network"] == "plain" and r["dialogues"] == count), row)
            found.append(row | {"times_plain": plain["seconds"] / row["seconds"]})
            print(
                ", ".join(f"{k} {v:.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in found[-1].items()),
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
