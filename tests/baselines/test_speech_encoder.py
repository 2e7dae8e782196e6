"""Whisper's encoder as part of a network: the same numbers as its own, padding unseen, gradients where they belong."""

import numpy as np
import pytest
import torch
import transformers
from tiny_encoders import save_whisper
from torch.testing import assert_close

from merlib import registry
from merlib.errors import DeclarationError, RequestError
from merlib.pretrained.whisper import WhisperEncoder

SECTION = {"name": "speech_encoder", "learns": True, "dim": 6, "dropout": 0.0}
GIVEN = {"dims": {"audio": 1}, "classes": 8, "sentiment": False}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("whisper"))
    save_whisper(folder, positions=50)
    return folder


def sounds(*seconds: float) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    waves = [torch.tensor(0.1 * rng.normal(size=round(16000 * s)), dtype=torch.float32) for s in seconds]
    wave = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    return wave, torch.arange(wave.shape[1]) < torch.tensor([len(w) for w in waves])[:, None]


def test_spectra_and_states_are_whispers_own(encoder):
    net = WhisperEncoder(encoder=encoder, learns=False).eval()
    own = transformers.WhisperForConditionalGeneration.from_pretrained(encoder).model.encoder.eval()
    prepare = transformers.WhisperFeatureExtractor(chunk_length=1)  # of 1 s, as long as this encoder reads
    wave, mask = sounds(1.0, 0.7)
    alone = [w[m].numpy() for w, m in zip(wave, mask, strict=True)]
    expected = prepare(alone, sampling_rate=16000, return_tensors="pt")
    spectra, real = net.spectra(wave, mask)
    assert real.sum(1).tolist() == [100, 70]
    assert_close(spectra[1, :, :69], expected.input_features[1, :, :69], rtol=1e-4, atol=1e-4)
    assert_close(spectra[0, :, :98], expected.input_features[0, :, :98], rtol=1e-4, atol=1e-4)
    with torch.inference_mode():
        states, steps = net(wave[:1], mask[:1])
        assert steps.all() and steps.shape == (1, 50)
        x = torch.zeros(1, 80, 100)
        x[:] = net.spectra(wave[:1], mask[:1])[0]
        assert_close(states, own(x).last_hidden_state, rtol=1e-4, atol=1e-5)


def test_batch_mates_are_invisible_and_longer_speech_is_refused(encoder):
    net = WhisperEncoder(encoder=encoder, learns=False).eval()
    wave, mask = sounds(0.9, 0.31, 0.02)
    together, real = net(wave, mask)
    assert real.sum(1).tolist() == [45, 16, 1] and not together[~real].any()
    for i, n in enumerate(real.sum(1)):
        length = mask[i].sum()
        alone, _ = net(wave[i : i + 1, :length], mask[i : i + 1, :length])
        assert_close(alone[0, :n], together[i, :n], rtol=1e-4, atol=1e-5)
    with pytest.raises(RequestError, match=r"reads 1 s at once, found 1.1 s: cut it"):
        net(*sounds(1.1))


@pytest.mark.parametrize("learns", [True, False])
def test_gradients_reach_all_but_the_convolutions_where_the_encoder_learns(encoder, learns):
    net = registry.build("model", SECTION | {"encoder": encoder, "learns": learns}, **GIVEN).train()
    assert net.encoder.training == learns
    wave, mask = sounds(0.5, 0.2)
    net({"audio": wave.unsqueeze(-1), "audio_mask": mask})["logits"].square().sum().backward()
    reached = {name for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    fixed = ("encoder.net.conv", "encoder.net.embed_positions")
    within = {name for name, _ in net.named_parameters() if name.startswith("encoder.") and not name.startswith(fixed)}
    head = {name for name, _ in net.named_parameters() if name.startswith("head.")}
    assert reached == head | (within if learns else set())


def test_other_arrays_are_refused(encoder):
    for section, dims in ((SECTION, {"audio": 12}), (SECTION, {"text": 2, "audio": 1})):
        with pytest.raises(DeclarationError, match="reads samples of audio"):
            registry.build("model", section | {"encoder": encoder}, **GIVEN | {"dims": dims})
