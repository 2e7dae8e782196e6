"""From recordings to arrays: the root `twin_media`, a paper's extractors, and the commands that users run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import soundfile

from merlib import cli, declarations, twins
from merlib.corpora import ravdess
from merlib.data import folders, store
from merlib.errors import DeclarationError
from merlib.features import audio, augment, extractors, faces, inspection, pipeline
from merlib.places import is_word
from merlib.roots import extract
from merlib.twins import dialogues, recordings, releases


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data folder whose root `twin_media` is a tenth of its size."""
    patch = pytest.MonkeyPatch()
    patch.setenv("MERLIB_DATA", str(tmp_path_factory.mktemp("data")))
    patch.setattr(recordings, "SCALE", 0.1)
    patch.setenv("MERLIB_TWIN_SCALE", "0.1")  # for other processes
    patch.setattr(recordings, "FRAMES", 2)
    yield
    patch.undo()


@pytest.mark.parametrize("name", [pytest.param("iemocap8", marks=pytest.mark.slow), "meld"])
def test_a_corpus_comes_from_the_files_of_its_release(root, name):
    twins.ensure("twin_media", [name])
    found = folders.dataset("twin_media", name)
    release = folders.recordings("twin_media", name)
    assert {f.passport.modality for f in found.features.values()} == {"text", "audio", "visual"}
    assert ("audio_augmented" in found.features) == (name == "iemocap8")
    assert found.corpus.source.startswith("synthetic recordings, seed 0, scale 0.1")
    t = found.corpus.table
    assert (t["audio"].ne("") | t["video"].ne("")).mean() > 0.9 and release.is_dir()
    _, failed = pipeline.clips(found.corpus, release)
    assert set(failed) <= set(found.features["audio"].passport.failed)
    assert len(failed) <= 2, "MELD lacks a clip, as the release does"
    twins.ensure("twin_media", [name])
    again = folders.dataset("twin_media", name)
    assert again.features["audio"].passport == found.features["audio"].passport


def test_a_corpus_is_checked_again_only_when_it_code_or_declarations_have_changed(root, monkeypatch):
    twins.ensure("twin_media", ["meld"])
    made = []
    monkeypatch.setattr(recordings, "make", lambda folder: made.append(folder.name))
    twins.ensure("twin_media", ["meld"])
    assert made == [], "nothing is imported that makes recordings"
    about = folders.root_path("twin_media") / "meld" / "corpus.json"
    text = about.read_text()
    about.write_text(text.replace("synthetic recordings", "other recordings"))
    twins.ensure("twin_media", ["meld"])
    about.write_text(text)
    monkeypatch.setattr(twins, "_everything", lambda: "other code")
    twins.ensure("twin_media", ["meld"])
    assert made == ["meld", "meld"]


def test_every_corpus_has_a_release_a_paper_and_extractors_at_the_twin_s_scale():
    assert {recordings.release_of(name) for name in dialogues.TWINS} == set(releases.LAYOUTS)
    for name in dialogues.TWINS:
        assert name in recordings.paper_of(name).corpora
        assert list(recordings.extractors(name)) == ["text", "audio", "visual"]
    assert recordings.extractors("iemocap8")["visual"].size == 8, "the twin's frames are small"
    assert recordings.extractors("ravdess")["audio"].settings.seconds < 2


def test_further_arrays_are_those_that_the_declared_papers_read():
    further = {name: list(recordings.arrays(name))[3:] for name in dialogues.TWINS}
    augmented = ["audio_augmented", "visual_augmented"]
    expected = {"iemocap4": ["text_asr"], "iemocap8": augmented}
    assert further == {name: expected.get(name, []) for name in further}
    assert recordings.arrays("iemocap8")["audio_augmented"].extractor == recordings.extractors("iemocap8")["audio"]


def test_exactly_one_paper_makes_the_arrays_of_a_corpus(monkeypatch, tmp_path):
    source = declarations.folders()["mfcre"]
    monkeypatch.setenv("MERLIB_PAPERS", str(tmp_path))
    for copy in ("one", "two"):
        shutil.copytree(source, tmp_path / copy)
        (tmp_path / copy / "paper.toml").write_text((source / "paper.toml").read_text().replace('"mfcre"', f'"{copy}"'))
    with pytest.raises(DeclarationError, match="twin_media_arrays of one, two names meld; exactly one paper's"):
        recordings.paper_of("meld")
    with pytest.raises(DeclarationError, match="twin_media_arrays of no paper names mosi"):
        recordings.paper_of("mosi")


def test_a_corpus_names_its_recordings_also_after_the_data_folder_has_moved(root, monkeypatch, tmp_path):
    twins.ensure("twin_media", ["meld"])
    shutil.copytree(folders.root_path("twin_media"), tmp_path / "twin_media")
    monkeypatch.setenv("MERLIB_DATA", str(tmp_path))
    before = store.path(tmp_path / "twin_media" / "meld", "audio").stat().st_mtime_ns
    twins.ensure("twin_media", ["meld"])
    assert folders.recordings("twin_media", "meld") == tmp_path / "twin_media" / "releases" / "meld"
    assert store.path(tmp_path / "twin_media" / "meld", "audio").stat().st_mtime_ns == before, "nothing is made anew"


@pytest.mark.slow
def test_the_synthetic_recogniser_gets_a_fifth_of_the_words_wrong(root):
    corpus = recordings.read("iemocap4", _release("iemocap"))
    heard = recordings.misheard(corpus)
    pairs = [(a.split(), b.split()) for a, b in zip(corpus.table["text"], heard, strict=True)]
    assert all(len(a) == len(b) for a, b in pairs)
    wrong = np.mean([x != y for a, b in pairs for x, y in zip(a, b, strict=True)])
    assert 0.1 < wrong < 0.3


def _release(name):
    return recordings.recorded(folders.root_path("twin_media") / "releases_only" / name, "test")


class Noted(dict):
    """A section that knows which of its leaves were read."""

    def __init__(self, leaves: dict):
        super().__init__(leaves)
        self.read = set()

    def __getitem__(self, key):
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key, default=None):
        self.read.add(key)
        return super().get(key, default)


@pytest.mark.parametrize("paper", declarations.papers())
def test_every_leaf_of_the_data_is_read(paper):
    """By a run (`declarations.READ`) or by what extracts: a setting that nothing reads would be switched in vain."""
    by_a_run = {key.split(".")[1] for key in declarations.READ}
    for corpus in declarations.load(paper).corpora:
        data = Noted(extract.declared_data(paper, corpus))
        extract.extractors(paper, corpus, data=data)
        assert set(data) == data.read | by_a_run & set(data)


@pytest.mark.parametrize("paper", declarations.papers())
def test_what_is_extracted_for_the_printed_protocol_can_name_a_file(paper):
    declared = declarations.load(paper)
    for corpus in declared.corpora:
        data = extract.declared_data(paper, corpus)
        names = [declarations.extracted(declared, data[m], m, corpus) for m in extract.extractors(paper, corpus)]
        assert all(map(is_word, names)) and ("text_ids" in names) == (paper == "mfcre"), names


def test_a_paper_s_extractors_have_its_settings():
    stored = extract.declared_data("attsf_net", "ravdess", {"substitute.face_vectors": True})
    found = extract.extractors("attsf_net", "ravdess", weights={"visual": "own.pth"}, data=stored)
    crops = found["visual"].faces
    assert (crops.frames, crops.size, crops.spread, found["visual"].weights) == (15, 224, True, "own.pth")
    for kind in ("paper", "offline"):
        visual = extract.extractors("attsf_net", "ravdess", kind=kind)["visual"]
        assert visual == crops, "a network that learns, as printed, reads the faces themselves"
    assert found["audio"].settings.coefficients == 12 and found["audio"].settings.seconds == 3.6
    haar = extract.extractors("mpaf_net", "iemocap8")["visual"]
    assert (haar.frames, haar.size, haar.active) == (150, 64, False), "the largest face, whoever speaks"
    states = extract.declared_data("gia_mic", "iemocap4", {"substitute.stored_speech": True})
    wavlm = extract.extractors("gia_mic", "iemocap4", weights={"audio": "/models/wavlm"}, data=states)["audio"]
    assert (wavlm.encoder, wavlm.seconds) == ("/models/wavlm", 6.0)
    for kind, layer in (("paper", 10), ("offline", 4)):
        wave = extract.extractors("gia_mic", "iemocap4", kind=kind)["audio"]
        assert wave == audio.Waveform(seconds=6.0), "an encoder that learns reads the waveform itself"
        text = extract.extractors("mpaf_net", "iemocap8", kind=kind)["text"]
        assert text["layer"] == layer, "the last two layers of BERT's twelve, or MiniLM's six, learn"
    last = extract.declared_data("mpaf_net", "iemocap8", {"substitute.stored_text": True})
    assert "layer" not in extract.extractors("mpaf_net", "iemocap8", data=last)["text"]
    for taken, pool in ((False, "ids"), (True, "cls")):
        data = extract.declared_data("mfcre", "meld", {"substitute.frozen_text": taken})
        text = extract.extractors("mfcre", "meld", data=data)["text"]
        assert text["pool"] == pool, "an encoder that learns reads token ids"
    early = extract.declared_data("attsf_net", "ravdess", {"data.frame_window": "start"})
    assert not extract.extractors("attsf_net", "ravdess", data=early)["visual"].spread
    for whose in ("active", "largest"):
        data = extract.declared_data("gia_mic", "iemocap4", {"readings.face": whose})
        assert extract.extractors("gia_mic", "iemocap4", data=data)["visual"].faces.active == (whose == "active")
    moved = extractors.on_device(extract.extractors("attsf_net", "ravdess", data=stored)["visual"], "cuda")
    assert moved.faces.device == "cuda" and extractors.on_device(haar, "cuda") == haar
    pooled = extractors.on_device(augment.augmented(extract.extractors("hff", "iemocap6"))["visual"], "cuda")
    assert pooled.extractor.device == "cuda"
    with pytest.raises(DeclarationError, match="nothing to make of T; it makes audio, visual"):
        extract.extract("real", "iemocap8", "mpaf_net", media=Path(), modalities="T", augmented=True)
    with pytest.raises(DeclarationError, match="one name for several arrays: .*Extract one modality at a time"):
        extract.extract(
            "real",
            "ravdess",
            "attsf_net",
            media=Path(),
            names=dict.fromkeys(("text", "audio"), "both"),
            modalities="TA",
        )
    with pytest.raises(DeclarationError, match="hff has no ravdess"):
        extract.extractors("hff", "ravdess")
    with pytest.raises(DeclarationError, match="nothing reads weights of audio; text, visual have encoders"):
        extract.extractors("hff", "iemocap6", weights={"audio": "/models/wavlm"})
    with pytest.raises(DeclarationError, match="kind offline: nothing reads weights of text"):
        extract.extractors("hff", "iemocap6", kind="offline", weights={"text": "/models/bert"})


def test_the_commands_carry_real_speech_from_flac_files_to_an_array(shared_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MERLIB_DATA", str(tmp_path))
    cli.main(["data", "import", "ravdess", str(shared_data / "ravdess"), "real"])
    assert folders.recordings("real", "ravdess") == (shared_data / "ravdess").resolve()
    command = ["data", "extract", "real", "ravdess", "--recipe", "attsf_net", "--modalities", "A"]
    cli.main([*command, "--workers", "2"])
    passport = store.read_passport(store.path(tmp_path / "real" / "ravdess", "audio"))
    assert len(passport.ids) == 1440 and passport.failed == () and passport.shape == (1440 * 121, 12)
    assert "failed" not in capsys.readouterr().err.replace("failed=0", "")


def test_what_failed_is_printed_and_a_lost_folder_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MERLIB_DATA", str(tmp_path))
    release = tmp_path / "release"
    for clip in ravdess.clips():
        (release / clip).parent.mkdir(parents=True, exist_ok=True)
        (release / f"{clip}.wav").touch()
    good = release / "Actor_01" / "03-01-01-01-01-01-01.wav"
    soundfile.write(good, np.random.default_rng(0).normal(size=16000) / 10, 16000)
    cli.main(["data", "import", "ravdess", str(release), "real"])
    command = ["data", "extract", "real", "ravdess", "--recipe", "attsf_net", "--modalities", "A"]
    cli.main(command)
    said = capsys.readouterr().err
    assert "failed: 1439 recordings, first 03-01-01-01-01-02-01" in said and said.count("the file is empty") == 1
    assert "all 1439 are in" in said and "audio.failures.csv" in said
    report = inspection.report({"audio": store.read_passport(store.path(tmp_path / "real" / "ravdess", "audio"))})
    assert report.loc["audio", "failed"] == 1439
    (tmp_path / "real" / "ravdess" / folders.RECORDINGS).unlink()
    with pytest.raises(SystemExit, match="1"):
        cli.main(command)
    assert "say with --media where they are" in capsys.readouterr().err


@pytest.mark.slow
def test_figures_of_recordings_show_synthetic_people_only(root):
    release = _release("iemocap")
    corpus = recordings.read("iemocap8", release)
    clips, _ = pipeline.clips(corpus, release, modality="visual")
    shown = inspection.faces({"a": clips[0], "b": clips[1]}, faces.HaarFaces(frames=4), data="twin_media", most=4)
    (ax,) = shown.axes
    assert ax.images[0].get_array().shape == (2 * 64, 4 * 64) and "SYNTHETIC" in shown.get_suptitle()
    assert not inspection.faces({"a": clips[0]}, faces.HaarFaces(frames=4), data="real").axes
    extractor = extract.extractors("mpaf_net", "iemocap8")["audio"]
    heard, _ = pipeline.clips(corpus, release)
    assert len(inspection.audio(heard[0], extractor, data="twin_media").axes) == 2
    assert not inspection.audio(heard[0], extractor, data="real").axes
    bars = inspection.durations({"iemocap8": corpus}, {"iemocap8": release}, data="twin_media")
    assert f"{len(corpus.ids)} recordings, 0 without" in bars.axes[0].get_title()


@pytest.mark.slow
def test_a_preprocessing_notebook_shows_synthetic_recordings(root, tmp_path):
    twins.ensure("twin_media", ["iemocap8"])
    target = tmp_path / "1_preprocess.ipynb"
    source = Path(__file__).parents[2] / "notebooks" / "mpaf_net" / "1_preprocess.ipynb"
    command = [sys.executable, "-m", "merlib", "notebook", str(source), str(target), "-p", "data", "twin_media"]
    subprocess.run(command, env=os.environ | {"MERLIB_RESULTS": str(tmp_path)}, check=True, capture_output=True)
    cells = [c for c in nbformat.read(target, as_version=4).cells if "inspection.examples" in c.source]
    figures = [o for o in cells[0].outputs if "image/png" in o.get("data", {})]
    assert len(figures) == 2, "one of audio, one of faces"


@pytest.mark.slow
def test_transcribing_writes_what_was_heard_and_counts_the_errors(root, tmp_path, monkeypatch, capsys):
    """The recogniser itself is tested elsewhere; here, that corpus, recordings and word errors come together."""
    from merlib.features import recognition

    twins.ensure("twin_media", ["iemocap8"])
    corpus = folders.dataset("twin_media", "iemocap8", features=()).corpus

    def heard(clips, file, *, recogniser):
        texts = corpus.table.set_index("utterance")["text"]
        rows = [(c.utterance, texts[c.utterance].split(" ", 1)[1]) for c in clips]  # the first word is not heard
        pd.DataFrame(rows, columns=["utterance", "text"]).to_csv(file, index=False)
        return {"utterances": len(rows)}

    monkeypatch.setattr(recognition, "transcribe", heard)
    cli.main(["data", "transcribe", "twin_media", "iemocap8", str(tmp_path / "asr.csv")])
    out = capsys.readouterr().out
    assert json.loads(out.splitlines()[0]) == {"utterances": len(corpus.ids)}
    words = sum(len(t.split()) for t in corpus.table["text"])
    as_written = next(line for line in out.splitlines() if "as written" in line).split()
    rate = f"{100 * len(corpus.ids) / words:.2f}"
    assert as_written == ["as", "written", rate, "%", "0", str(len(corpus.ids)), "0", str(words), str(len(corpus.ids))]
