"""Tiny, randomly initialised encoders of Hugging Face's kinds, saved to disk, for tests without the real weights."""

import torch
import transformers
from tokenizers import ByteLevelBPETokenizer

from merlib.data.table import Corpus

SIZE = {"layers": 2, "attention_heads": 2, "ffn_dim": 32}  # of each side of a Whisper


def save_text_encoder(folder: str, corpus: Corpus, kind: str) -> None:
    """Save a text encoder of two layers, width 16, and its tokenizer, which knows the words of a corpus.

    kind: "bert" or "roberta".
    """
    lines = [f"{s}: {t}" for s, t in zip(corpus.table["speaker"], corpus.table["text"], strict=True)]
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    if kind == "bert":
        words = sorted({w for line in lines for w in line.lower().replace(".", " .").replace(":", " :").split()})
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
        tokenizer = transformers.BertTokenizer(vocab={w: i for i, w in enumerate(vocabulary)}, model_max_length=64)
        model = transformers.BertModel(
            transformers.BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **size)
        )
    else:
        trained = ByteLevelBPETokenizer()
        marks = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        trained.train_from_iterator(lines, vocab_size=400, special_tokens=marks, show_progress=False)
        trained.save_model(folder)
        tokenizer = transformers.RobertaTokenizer.from_pretrained(folder, model_max_length=64)
        config = transformers.RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=66, **size)
        model = transformers.RobertaModel(config)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def save_whisper(folder: str, *, positions: int) -> None:
    """Save a Whisper of two layers, width 16, that reads `positions` steps of 20 ms at once."""
    torch.manual_seed(0)
    side = {f"{part}_{key}": value for part in ("encoder", "decoder") for key, value in SIZE.items()}
    config = transformers.WhisperConfig(
        d_model=16, vocab_size=20, num_mel_bins=80, max_source_positions=positions, max_target_positions=8, **side,
        pad_token_id=0, bos_token_id=1, eos_token_id=0, decoder_start_token_id=1,
    )  # fmt: skip
    transformers.WhisperForConditionalGeneration(config).save_pretrained(folder)
