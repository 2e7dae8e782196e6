"""Pretrained encoders: the real loading code, offline, on tiny ones with random weights that each test saves."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from building import changed, recipe_of
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn

from merlib import declarations, registry, study, twins
from merlib.data import folders
from merlib.errors import DeclarationError, RequestError
from merlib.papers.mpaf_net.encoders import TunedText
from merlib.pretrained import encoders
from merlib.pretrained.encoders import AudioEncoder, padded
from merlib.roots import extract
from merlib.study import identity, runs
from merlib.twins import recordings

CONVOLUTIONS = {"conv_dim": (6, 6), "conv_kernel": (10, 4), "conv_stride": (5, 2), "num_feat_extract_layers": 2}
SPEECH = {
    "wavlm": transformers.WavLMConfig,
    "hubert": transformers.HubertConfig,
    "wav2vec2": transformers.Wav2Vec2Config,
}
FIELD, HOP = 25, 10  # samples that a step sees, and from step to step
LENGTHS = (400, 25, 133, 260)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def save_speech(folder, kind: str = "wavlm", *, norm: str = "layer", normalize: bool = True) -> str:
    torch.manual_seed(0)
    config = SPEECH[kind](
        hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, feat_extract_norm=norm,
        do_stable_layer_norm=norm == "layer", num_conv_pos_embeddings=6, num_conv_pos_embedding_groups=2,
        mask_time_prob=0.5, mask_time_length=2, layerdrop=0.5, **CONVOLUTIONS,
    )  # fmt: skip
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=normalize).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def wavlm(tmp_path) -> str:
    return save_speech(tmp_path / "tiny-wavlm")


def waves(seed: int = 0) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [(0.3 + 0.1 * draw.normal(size=n)).astype(np.float32) for n in LENGTHS]


def steps(samples: int) -> int:
    return (samples - FIELD) // HOP + 1


# --- speech in the network -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["layer", "group"])
@pytest.mark.parametrize("kind", SPEECH)
def test_an_utterance_is_heard_as_if_it_were_alone(tmp_path, kind, norm):
    encoder = AudioEncoder(encoder=save_speech(tmp_path, kind, norm=norm), learns=True).double().eval()
    wave, mask = padded([torch.from_numpy(w).double() for w in waves()])
    noisy = torch.cat([wave + 7 * ~mask, torch.ones(4, 31)], 1)
    for heard in (wave, noisy):
        states, real = encoder(heard, torch.arange(heard.shape[1]) < torch.tensor(LENGTHS)[:, None])
        assert real.sum(1).tolist() == [steps(n) for n in LENGTHS] == [encoder.frames(n) for n in LENGTHS]
        assert states.shape == (4, steps(max(LENGTHS)), 12)
        for i, samples in enumerate(waves()):
            whole = torch.from_numpy(samples).double()
            own = (whole - whole.mean()) / (whole.var(unbiased=False) + 1e-7).sqrt()  # as the feature extractor does
            alone = encoder.net(own[None]).last_hidden_state[0]
            torch.testing.assert_close(states[i, real[i]], alone, rtol=1e-7, atol=1e-7)
            assert not states[i, ~real[i]].any()


def test_waveforms_are_left_as_they_are_for_encoders_that_want_it(tmp_path):
    encoder = AudioEncoder(encoder=save_speech(tmp_path, normalize=False), learns=True).eval()
    wave = torch.from_numpy(waves()[0])[None]
    alone = encoder.net(wave).last_hidden_state
    torch.testing.assert_close(encoder(wave, torch.ones(1, 400, dtype=torch.bool))[0], alone, rtol=1e-4, atol=1e-5)


def test_what_is_shorter_than_a_step_still_has_one(tmp_path):
    encoder = AudioEncoder(encoder=save_speech(tmp_path, normalize=False), learns=True).eval()
    wave, mask = padded([torch.randn(3), torch.randn(60)])
    states, real = encoder(wave + 7 * ~mask, mask)
    assert real.sum(1).tolist() == [1, steps(60)] and states.isfinite().all()
    one, _ = encoder(wave[:1, :3], mask[:1, :3])
    torch.testing.assert_close(states[:1, :1], one, rtol=1e-4, atol=1e-5)


def test_all_but_the_convolutions_learn(wavlm):
    encoder = AudioEncoder(encoder=wavlm, learns=True).train()
    states, _ = encoder(*padded([torch.from_numpy(w) for w in waves()]))
    (states**3).sum().backward()
    learned = {n for n, p in encoder.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    frozen = {n for n, _ in encoder.named_parameters() if n.startswith("net.feature_extractor.")}
    assert frozen and learned == {n for n, _ in encoder.named_parameters()} - frozen


def test_a_frozen_encoder_stays_as_it_is(wavlm):
    encoder = nn.ModuleList([AudioEncoder(encoder=wavlm, learns=False)]).train()[0]
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not any(module.training for module in encoder.modules())


def test_checkpointing_gives_the_same_gradients_and_seeds_hold(wavlm):
    found = []
    for checkpointing in (False, False, True):
        encoder = AudioEncoder(encoder=wavlm, learns=True, checkpointing=checkpointing).train()
        asked = [getattr(module, "gradient_checkpointing", False) for module in encoder.modules()]
        assert any(asked) == checkpointing
        torch.manual_seed(3)
        np.random.seed(len(found))  # SpecAugment would draw from here
        states, _ = encoder(*padded([torch.from_numpy(w) for w in waves()]))
        (states**2).sum().backward()
        found.append([states, *(p.grad for p in encoder.parameters() if p.grad is not None)])
    assert all(torch.equal(a, b) for a, b in zip(*found[:2], strict=True))
    for mine, again in zip(found[0], found[2], strict=True):
        torch.testing.assert_close(again, mine, rtol=1e-4, atol=1e-6)


def test_an_encoder_of_something_else_is_refused(tmp_path):
    bert(tmp_path)
    with pytest.raises(ValueError, match="is a roberta; expected wavlm"):
        AudioEncoder(encoder=str(tmp_path), learns=True)


@pytest.mark.parametrize("kind", ["wavlm", "clip"])
def test_an_encoder_that_reads_no_token_ids_is_no_text_encoder(request, kind):
    folder = request.getfixturevalue(kind)
    with pytest.raises(RequestError, match=f"is a {kind}.*, which does not read token ids alone.*Name a text encoder"):
        encoders.text_encoder(folder)


SMALL = {"dim": 8, "extractors.heads": 2, "extractors.ff": 8}
BOTH = pytest.mark.parametrize("row", ["gia_mic_st", "baseline_st"])


def speech_network(row: str, wavlm: str, *, dims: dict[str, int], steps: dict[str, int], **change) -> nn.Module:
    """The network of a row of GIA-MIC's Table 2, whose speech encoder learns with it."""
    model = changed(recipe_of(f"gia_mic/table2/{row}")["model"], SMALL | {"extractors.audio.encoder": wavlm} | change)
    return registry.build("model", model, dims=dims, steps=steps, classes=4)


def spoken() -> dict[str, Tensor]:
    """Waveforms as a batch has them (b s 1), beside text vectors."""
    wave, mask = padded([torch.from_numpy(w) for w in waves()])
    text, text_mask = padded([torch.randn(n, 5, generator=torch.Generator().manual_seed(n)) for n in (2, 4, 1, 3)])
    return {"audio": wave.unsqueeze(-1), "audio_mask": mask, "text": text, "text_mask": text_mask}


@BOTH
def test_an_encoder_learns_as_a_part_of_the_network(wavlm, row):
    torch.manual_seed(0)
    sizes = {"dims": {"text": 5, "audio": 1}, "steps": {"text": 4, "audio": 400}}
    model, batch = speech_network(row, wavlm, **sizes).train(), spoken()
    model(batch)["logits"].square().sum().backward()
    learns = {n: p.grad.abs().max() > 0 for n, p in model.named_parameters() if p.requires_grad}
    assert all(learns.values()) and any(n.startswith("extractors.encode.audio.net.encoder.") for n in learns)
    model.eval()
    together = model(batch)["logits"]
    for i, length in enumerate(LENGTHS):
        one = {k: v[i : i + 1, : length if "audio" in k else None] for k, v in batch.items()}
        torch.testing.assert_close(model(one)["logits"][0], together[i], rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(batch)["logits"].float(), together, rtol=0.1, atol=0.1)


@BOTH
def test_counted_padding_is_in_steps_not_samples(wavlm, row):
    sizes = {"dims": {"text": 5, "audio": 1}, "steps": {"text": 4, "audio": 400}}
    model = speech_network(row, wavlm, **sizes, pool_padding=True)
    assert model.extractors.steps == {"text": 4, "audio": steps(400)}


@BOTH
def test_features_for_an_encoder_that_reads_waveforms_are_refused(wavlm, row):
    with pytest.raises(ValueError, match="reads samples, 1 value a step; found 7"):
        speech_network(row, wavlm, dims={"text": 5, "audio": 7}, steps={"text": 4, "audio": 4})


# --- features --------------------------------------------------------------------------------------------------------


def bert(folder) -> str:
    words = ["<s>", "<pad>", "</s>", "<unk>", "no", "one", "knows", "what", "it", "was"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=6, **names).save_pretrained(
        folder
    )
    torch.manual_seed(0)
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.RobertaConfig(vocab_size=len(words), max_position_embeddings=12, pad_token_id=1, **sizes)
    transformers.RobertaModel(config).save_pretrained(folder)
    return str(folder)


def test_speech_becomes_the_states_of_its_frames(wavlm):
    speech = encoders.Speech(wavlm, "cpu")
    with torch.inference_mode():
        together, real = speech(waves())
        assert real.sum(1).tolist() == [steps(n) for n in LENGTHS]
        for i, wave in enumerate(waves()):
            torch.testing.assert_close(speech([wave])[0][0], together[i, real[i]], rtol=1e-4, atol=1e-5)
        _, cut = encoders.Speech(wavlm, "cpu", seconds=0.01)(waves())  # 160 samples of 16 kHz
    assert cut.sum(1).tolist() == [steps(min(n, 160)) for n in LENGTHS]


@pytest.fixture
def clip(tmp_path) -> str:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPVisionConfig(image_size=16, patch_size=8, projection_dim=12, **sizes)
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(tmp_path / "tiny-clip")
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    transformers.CLIPImageProcessor(**size).save_pretrained(tmp_path / "tiny-clip")
    return str(tmp_path / "tiny-clip")


def test_frames_become_embeddings_and_are_prepared_as_clip_is(clip):
    ramp = np.linspace(0, 255, 40 * 30).reshape(
        40, 30, 1
    )  # smooth, because the two ways to shrink an image differ at noise
    videos = [np.stack([np.roll(ramp, k, 0) * [1, 0.5, 0.2] for k in range(n)]).astype(np.uint8) for n in (3, 1, 70)]
    with torch.inference_mode():
        found, real = encoders.Images(clip, "cpu")(videos)
        assert real.sum(1).tolist() == [3, 1, 70] and found.shape == (3, 70, 12)
    processor = transformers.CLIPImageProcessor.from_pretrained(clip)
    net = transformers.CLIPVisionModelWithProjection.from_pretrained(clip).eval()
    with torch.no_grad():
        pixels = processor(list(videos[0]), return_tensors="pt").pixel_values
        expected = net(pixel_values=pixels).image_embeds.numpy()
    np.testing.assert_allclose(found[0, :3], expected, rtol=0.02, atol=0.02 * np.abs(expected).max())


def rewritten(folder: str, change) -> None:
    """Other weights in an encoder's file: `change` of its content."""
    file = Path(folder) / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})


def old_names(content: dict) -> dict:
    """The names that published weights of speech encoders have: PyTorch has renamed those of its weight norm."""
    new = "parametrizations.weight.original"
    return {key.replace(f"{new}0", "weight_g").replace(f"{new}1", "weight_v"): v for key, v in content.items()}


@pytest.mark.parametrize("names", [dict, old_names], ids=["new", "old"])
def test_an_encoder_that_was_saved_within_another_network_is_the_same(wavlm, clip, names):
    videos = [np.random.default_rng(0).integers(0, 256, (2, 20, 20, 3), dtype=np.uint8)]
    for folder, load, inputs in ((wavlm, encoders.Speech, waves()), (clip, encoders.Images, videos)):
        with torch.inference_mode():
            expected, _ = load(folder, "cpu")(inputs)
            rewritten(
                folder, lambda held: {f"mine.speech.{k}": v for k, v in names(held).items()} | {"head": torch.ones(1)}
            )
            found, _ = load(folder, "cpu")(inputs)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda held: {k: v for k, v in held.items() if "layers.1." not in k}, r"lack \d+ of .*layers\.1\."),
        (lambda held: {f"x.{k}": v for k, v in held.items()} | {f"y.{k}": v + 1 for k, v in held.items()}, "and have"),
        (lambda held: held | {k: torch.ones(3, 5) for k in held if "layers.0." in k}, "cannot read it"),
    ],
    ids=["a layer missing", "two prefixes", "another shape"],
)
def test_weights_that_do_not_fill_an_encoder_are_refused_by_name(wavlm, clip, change, says):
    extra = Path(clip)
    extra.rename(extra.with_name("deep"))
    sizes = {"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPVisionConfig(image_size=16, patch_size=8, projection_dim=12, **sizes)
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(clip)
    for folder, load in ((wavlm, encoders.Speech), (clip, encoders.Images)):
        rewritten(folder, change)
        with pytest.raises(RequestError, match=f"{folder}: .*{says}") as error:
            load(folder, "cpu")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["cut", "text", "config", "nothing"])
def test_a_damaged_encoder_is_refused_by_name(wavlm, tmp_path, damage):
    file, config = Path(wavlm) / "model.safetensors", Path(wavlm) / "config.json"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "text":
        file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    elif damage == "config":
        config.write_text(config.read_text()[:-40])
    else:
        wavlm = str(tmp_path / "absent")
    named = {"config": wavlm, "nothing": wavlm}.get(damage, str(file))
    with pytest.raises(RequestError, match=named) as error:
        AudioEncoder(encoder=wavlm, learns=True)
    assert "\n" not in str(error.value)


def test_weights_are_the_files_that_are_read(tmp_path):
    """A passport has their hash: of a file beside them that nothing reads, it would be that of any weights."""
    folder = bert(tmp_path)
    states = load_file(tmp_path / "model.safetensors")
    save_file({"other": torch.ones(1)}, tmp_path / "adapter.safetensors")
    assert [file.name for file in encoders.weights(folder)] == ["model.safetensors"]
    (tmp_path / "model.safetensors").unlink()
    torch.save(states, tmp_path / "pytorch_model.bin")
    assert [file.name for file in encoders.weights(folder)] == ["pytorch_model.bin"]
    encoders.text_encoder(folder).save_pretrained(tmp_path, max_shard_size="1KB")
    assert len(encoders.weights(folder)) > 2 and "pytorch_model.bin" not in str(encoders.weights(folder))
    encoders.text_encoder(folder)


def test_quantised_weights_are_not_read_as_floats(tmp_path):
    folder = bert(tmp_path)
    for kind in (torch.bfloat16, torch.float16):
        rewritten(folder, lambda held, kind=kind: {key: value.to(kind) for key, value in held.items()})
        assert {parameter.dtype for parameter in encoders.text_encoder(folder).parameters()} == {torch.float32}
    rewritten(folder, lambda held: {key: (127 * value).to(torch.int8) for key, value in held.items()})
    with pytest.raises(RequestError, match=r"model.safetensors: its weights are quantised \(I8\)"):
        encoders.text_encoder(folder)


def test_a_tokenizer_without_its_vocabulary_is_refused(tmp_path):
    folder = bert(tmp_path)
    assert len(encoders.tokenizer(folder)) == 10
    for file in tmp_path.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(RequestError, match="its tokenizer has no vocabulary: none of merges.txt, tokenizer.json, voc"):
        encoders.tokenizer(folder)


def test_nobody_is_asked_whether_to_run_the_code_of_an_encoder(tmp_path, monkeypatch):
    folder = bert(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    own = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config | own))
    monkeypatch.setattr("builtins.input", lambda question: pytest.fail(question))
    with pytest.raises(RequestError, match="AutoConfig cannot read it .*custom code"):
        encoders.text_encoder(folder)


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"image_mean": [0.5], "image_std": [0.5]}'])
def test_settings_of_images_that_say_nothing_are_refused(clip, content):
    file = Path(clip) / "preprocessor_config.json"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(RequestError, match="preprocessor_config.json gives no image_mean and") as error:
        encoders.Images(clip, "cpu")
    assert "\n" not in str(error.value)


def test_only_a_pooler_that_is_read_must_be_there(tmp_path):
    folder = bert(tmp_path)
    rewritten(folder, lambda held: {key: value for key, value in held.items() if "pooler" not in key})
    tuned = {"width": 12, "encoder": folder, "tuned_layers": 1}
    assert TunedText(**tuned, pool="hidden").width == 12
    with pytest.raises(RequestError, match="lack 2 of RobertaModel, first pooler.dense.bias"):
        TunedText(**tuned, pool="pooler")


def test_an_encoder_without_weights_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "wavlm"}))
    with pytest.raises(ValueError, match="save the encoder with save_pretrained"):
        encoders.weights(str(tmp_path))


# --- weights in the identity of a run --------------------------------------------------------------------------------


def disturb(file: Path) -> None:
    """Other values in a file of the same name and size, written later."""
    data, about = bytearray(file.read_bytes()), file.stat()
    data[-1] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns + 1_000_000))


def test_other_weights_under_the_same_name_are_another_run(wavlm, data_folder, monkeypatch):
    monkeypatch.setattr(twins, "SCALES", dict.fromkeys(twins.SCALES, 0.02))
    twins.ensure("twin", ["iemocap4"])
    paper = declarations.load("gia_mic")
    _, _, run = next(one for one in study.runs_of(paper, "table1") if one[2].recipe["model"]["name"] == "gia_mic")
    model = changed(run.recipe["model"], {"extractors.audio.encoder": wavlm})
    run = replace(run, recipe=run.recipe | {"model": model})
    before = run.id
    (Path(wavlm) / "README.txt").write_text("no part of the network")
    assert replace(run).id == before  # a run computes its id once: hence a new one each time
    for name in ("model.safetensors", "preprocessor_config.json"):
        disturb(Path(wavlm) / name)
        assert replace(run).id != before, name
        before = replace(run).id
    other = run.recipe["data"] | {"modalities": "TV"}
    silent = replace(run, recipe=run.recipe | {"data": other}).id
    disturb(Path(wavlm) / "model.safetensors")
    assert replace(run, recipe=run.recipe | {"data": other}).id == silent, "nothing of it is heard"


@pytest.mark.slow
def test_speech_is_fine_tuned_from_recordings_to_a_record(wavlm, places, monkeypatch, capsys):
    """The paper's own set-up (Sec. 3.1): recordings -> waveforms -> an encoder that learns -> the score of a fold."""
    monkeypatch.setattr(recordings, "SCALE", 0.1)
    monkeypatch.setattr(recordings, "FRAMES", 1)
    twins.ensure("twin_media", ["iemocap4"])
    tuned = {"substitute.stored_speech": False}
    study.run_table("gia_mic", "table2", row="gia_mic_vst", data="twin_media", change=tuned)
    assert "gia_mic_vst on iemocap4 (TAV): no waveforms in the root" in capsys.readouterr().out
    release = folders.recordings("twin_media", "iemocap4")
    extract.extract(
        "twin_media", "iemocap4", "gia_mic", media=release, modalities="A", change=tuned | {"data.audio_seconds": 0.05}
    )
    runs._dataset.cache_clear()
    change = tuned | {"model.extractors.audio.encoder": wavlm, "train.epochs": 1}
    found = study.run_table(
        "gia_mic", "table2", row=["wavlm", "baseline_st"], data="twin_media", folds=[0], change=change
    )
    assert (
        set(found["row"]) == {"wavlm", "baseline_st"}
        and "waveform, 16000 Hz, first 0.05 s" in found["features"].iloc[0]
    )


def test_weights_are_read_once_and_known_by_their_content(tmp_path, data_folder, monkeypatch):
    file = data_folder / "weights" / "face.pth.tar"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    visual = {"name": "efficientface", "weights": file.name}
    model = {"name": "attsf_net", "encoder": {"audio": {"name": "cnn"}, "visual": visual}}
    read = []
    real = identity.files.sha256
    monkeypatch.setattr(identity.files, "sha256", lambda *paths: read.append(paths) or real(*paths))
    found = [identity.of_weights(model, ["audio", "visual"]) for _ in range(3)]
    assert found[0].keys() == {"encoder.visual.weights"} and found == found[:1] * 3 and len(read) == 1
    copied = shutil.copy(file, tmp_path / "copy")
    assert identity.of_weights(changed(model, {"encoder.visual.weights": copied}), ["visual"]) == found[0]
    for other in ({"encoder.visual.name": "vectors"}, {"encoder.visual.weights": "none"}):
        assert identity.of_weights(changed(model, other), ["visual"]) == {}
    with pytest.raises(DeclarationError, match="attsf_net: .*absent.pth is not there"):
        identity.of_weights(changed(model, {"encoder.visual.weights": "absent.pth"}), ["visual"])
