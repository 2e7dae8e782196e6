"""Roots fill once, whoever asks and whatever is killed, and report what they hold."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
from releases import dump, items, meld_files
from safetensors.numpy import save_file

from merlib import declarations, places, twins
from merlib.data import folders, store, table
from merlib.data.table import CorpusError
from merlib.declarations.schema import SPEED
from merlib.errors import DeclarationError
from merlib.roots import doctor, imports, protocols
from merlib.twins import dialogues


@pytest.fixture
def small_twin(data_folder, monkeypatch):
    monkeypatch.setattr(twins, "SCALE", 0.02)
    return data_folder / "twin"


def test_the_twin_is_made_once(small_twin):
    twins.ensure("twin", ["iemocap6"])
    first = folders.dataset("twin", "iemocap6")
    assert set(first.features) == {"text", "audio", "visual"} == set(folders.arrays("twin", "iemocap6"))
    assert "scale 0.02" in first.corpus.source and "twin" in first.features["text"].passport.summary()
    files = {p: p.stat().st_mtime_ns for p in small_twin.rglob("*") if p.is_file()}
    twins.ensure("twin", ["iemocap6"])
    again = folders.dataset("twin", "iemocap6", features=["text"])
    assert list(again.features) == ["text"] and twins.offered("twin") == sorted(dialogues.TWINS)
    assert folders.corpora("twin") == ["iemocap6"], "a read lists what is there"
    np.testing.assert_array_equal(again.features["text"].values, first.features["text"].values)
    assert files == {p: p.stat().st_mtime_ns for p in small_twin.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", sorted(dialogues.TWINS))
def test_every_twin_is_stored_with_its_sequences(small_twin, name):
    scale = twins.SCALES.get(name, 0.02)
    twins.ensure("twin", [name])
    found, (_, arrays) = folders.dataset("twin", name), dialogues.make(name, scale=scale)
    assert set(found.features) == set(arrays) and f"scale {scale}," in found.corpus.source
    for a, array in arrays.items():
        values, lengths = array if isinstance(array, dialogues.Steps) else (array, None)
        np.testing.assert_array_equal(found.features[a].values, values)
        assert (found.features[a].lengths is None) == (lengths is None)
        assert lengths is None or (found.features[a].lengths == lengths).all()
        assert found.features[a].passport.modality == a.split("_")[0]
    shutil.copytree(small_twin / name, small_twin.parent / "lab" / name)
    report = doctor.describe({"a": {name: ["visual"]}})
    width = arrays["visual"].values.shape[1] if name not in ("iemocap6", "meld", "mosei") else 24
    time = "" if width == 24 else "t x "
    assert f"visual: synthetic twin, seed 0 ({time}{width})" in doctor.as_text(json.loads(json.dumps(report)))
    assert report["missing"] == {"lab": {"a": {}}}, "a twin makes what is missing"


def test_a_twin_of_another_version_is_made_anew(small_twin):
    twins.ensure("twin", ["meld"])
    first = folders.dataset("twin", "meld").corpus
    older = table.Corpus("meld", first.labels, first.table.drop(columns="score"), "another version")
    table.save(older, small_twin / "meld")
    twins.ensure("twin", ["meld"])
    assert folders.dataset("twin", "meld").corpus.source == first.source


def test_another_seed_makes_the_twin_anew(small_twin, monkeypatch):
    twins.ensure("twin", ["meld"])
    first = folders.dataset("twin", "meld")
    monkeypatch.setattr(twins, "SEED", 9)
    twins.ensure("twin", ["meld"])
    assert "seed 9" in folders.dataset("twin", "meld").corpus.source
    assert "seed 0" in first.corpus.source


def test_processes_that_ask_at_once_get_the_same_twin(small_twin):
    children = []
    for _ in range(4):
        if not (pid := os.fork()):
            twins.ensure("twin", ["meld"])
            os._exit(len(folders.dataset("twin", "meld").features))
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [3] * 4


def test_a_process_killed_while_it_makes_the_twin_is_forgotten(small_twin, exit_status_of, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(table, "save", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        assert exit_status_of(lambda: twins.ensure("twin", ["meld"])) == -signal.SIGKILL
    assert list(small_twin.glob(".meld.part-*")) and not (small_twin / "meld").exists()
    twins.ensure("twin", ["meld"])
    assert set(folders.dataset("twin", "meld").features) == {"text", "audio", "visual"}
    assert not list(small_twin.glob(".meld.part-*"))


@pytest.fixture(scope="module")
def meld_source(tmp_path_factory):
    corpus, _ = dialogues.make("meld")
    return meld_files(tmp_path_factory.mktemp("meld"), corpus), corpus


def _bytes(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_import_is_checked_and_changes_nothing_the_second_time(data_folder, meld_source):
    source, corpus = meld_source
    imports.import_source("meld", source, "lab")
    once = _bytes(data_folder)
    imports.import_source("meld", str(source), "lab")
    assert _bytes(data_folder) == once
    assert folders.corpora("lab") == ["meld"] and folders.arrays("lab", "meld") == []
    loaded = folders.dataset("lab", "meld").corpus
    assert loaded.counts() == corpus.counts()
    pickled = dump(data_folder / "MELD_features_raw.pkl", items(dialogues.make("meld", scale=0.1)[0]))
    with pytest.raises(CorpusError, match="other ids, labels or splits.*another root"):
        imports.import_source("conv-emotion", pickled, "lab", partial=True)
    imported = imports.import_source("conv-emotion", pickled, "pickled", partial=True)
    assert sorted(p.stem for p in imported) == ["audio", "text", "utterances", "visual"]
    feature = folders.dataset("pickled", "meld", features=["visual"]).features["visual"]
    assert feature.passport.summary().startswith("visual: conv-emotion visual (3), partial: ")


def test_what_cannot_be_imported_says_why(data_folder, meld_source, tmp_path):
    with pytest.raises(DeclarationError, match="'csv' is no kind of source; there are: .*meld"):
        imports.import_source("csv", tmp_path, "lab")
    for name in places.TWINS:
        with pytest.raises(
            DeclarationError, match="is synthetic: bring data into a root other than twin and twin_media"
        ):
            imports.import_source("meld", meld_source[0], name)
    with pytest.raises(CorpusError, match="the root 'lab' has no meld; import it. MELD .GPL-3."):
        folders.dataset("lab", "meld")
    small = meld_files(tmp_path, dialogues.make("meld", scale=0.1)[0])
    with pytest.raises(CorpusError, match="train has .* expected 9989 utterances in 1038 dialogues"):
        imports.import_source("meld", small, "lab")
    assert not (data_folder / "lab").exists()


def test_whatever_a_foreign_file_does_to_a_reader_is_an_error_of_the_file(data_folder, tmp_path):
    files = meld_files(tmp_path, dialogues.make("meld", scale=0.02)[0])
    (files / "dev_sent_emo.csv").write_text("")
    with pytest.raises(CorpusError, match="dev_sent_emo.csv: No columns to parse.*Expected a CSV file"):
        imports.import_source("meld", files, "lab")


def test_scores_that_are_missing_are_noticed(monkeypatch):
    corpus, _ = dialogues.make("mosi", scale=1.0)
    scored = corpus.table["score"].where(np.arange(len(corpus.ids)) % 2 == 0)
    lost = table.build("mosi", corpus.table.assign(score=scored), "every second one")
    with pytest.raises(CorpusError, match="utterances have a score; expected 2195 or more"):
        table.expect(lost)


def test_an_array_of_another_modality_is_not_replaced(small_twin):
    twins.ensure("twin", ["meld"])
    corpus = folders.dataset("twin", "meld", features=()).corpus
    array = table.Array(np.ones((len(corpus.ids), 2), np.float32), "text", "other")
    with pytest.raises(store.FeatureError, match="holds audio: .* of text, another name"):
        store.add(folders.root_path("twin") / "meld", corpus, "audio", array)


def test_the_doctor_reports_what_is_here_and_what_is_missing(small_twin):
    needs = {"mfcre": {"iemocap6": ["text", "audio", "visual"], "meld": ["text"]}}
    assert doctor.describe(needs)["roots"] == {}
    assert "  iemocap6_majority, iemocap4, iemocap8: IEMOCAP: a signed" in doctor.as_text(doctor.describe(needs))
    twins.ensure("twin", ["iemocap6"])
    lab = small_twin.rename(small_twin.parent / "lab") / "iemocap6"
    store.path(lab, "audio").write_text("broken")
    store.path(lab, "visual").unlink()
    (small_twin.parent / "weights").mkdir()
    report = json.loads(json.dumps(doctor.describe(needs)))
    assert list(report["roots"]) == list(report["missing"]) == ["lab"]
    here = report["roots"]["lab"]["iemocap6"]
    assert here["features"]["text"]["ids"] == sum(here["utterances"].values())
    assert "truncated" in here["features"]["audio"]["error"]
    assert report["missing"]["lab"]["mfcre"] == {"iemocap6": ["audio", "visual"], "meld": ["corpus", "text"]}
    assert set(report["access"]) >= {"iemocap6", "meld"}
    written = doctor.as_text(report)
    assert "lab for mfcre: iemocap6 lacks audio, visual; meld lacks corpus, text" in written
    assert "text: synthetic twin, seed 0 (48)" in written and "GPL-3" in written
    assert f"0 of {sum(here['utterances'].values())} recordings found" in written
    store.path(lab, "visual").symlink_to("visual.safetensors")
    os.mkfifo(store.path(lab, "pipe"))
    broken = doctor.describe(needs)["roots"]["lab"]["iemocap6"]["features"]
    assert "symbolic links" in broken["visual"]["error"] and "a named pipe" in broken["pipe"]["error"]
    save_file({"values": np.ones((1, 1))}, store.path(lab, "deep"), {"passport": "[" * 100_000})
    assert "recursion" in doctor.describe(needs)["roots"]["lab"]["iemocap6"]["features"]["deep"]["error"]
    (lab / "utterances.parquet").write_text("broken")
    assert "sha256" in doctor.describe(needs)["roots"]["lab"]["iemocap6"]["error"]


def test_the_doctor_says_what_a_printed_protocol_lacks_and_what_it_costs(small_twin):
    twins.ensure("twin", ["iemocap4", "ravdess"])
    lab = small_twin.rename(small_twin.parent / "lab")
    papers = [declarations.load(name) for name in ("gia_mic", "attsf_net", "hff")]
    printed = json.loads(json.dumps(doctor.describe({}, papers)))["protocols"]["lab"]
    assert printed.keys() == {"gia_mic", "attsf_net"}, "hff has no substitute"
    (speech,) = printed["gia_mic"]
    learns = papers[0].substitute["stored_speech"].learns
    assert (speech["printed"], speech["here"], speech["substitute"], speech["stands_in"]) == (
        "waveforms", False, "stored_speech", True,
    )  # fmt: skip
    assert (speech["weights"], speech["weights_here"]) == ("microsoft/wavlm-large", False)
    assert speech["cost"]["gpu_gb"] == pytest.approx((16 * learns.parameters + 32e6 * learns.megabytes) / 1e9, abs=0.06)
    utterances = sum(folders.dataset("lab", "iemocap4", features=()).corpus.counts()["utterances"].values())
    hours = 1e6 * learns.megaflop * utterances * 40 * 5 / SPEED["bf16"] / 3600  # epochs, folds
    assert utterances and speech["cost"]["hours"] == pytest.approx(hours, abs=0.06)
    written = doctor.as_text(doctor.describe({"gia_mic": {"iemocap4": ["audio"]}}, papers))
    assert (
        "as printed, iemocap4: no array waveforms (audio); stored_speech stands in, instead of: WavLM large," in written
    )
    assert "microsoft/wavlm-large are not on this machine; it takes about" in written and "(computed)" in written
    corpus = folders.dataset("lab", "iemocap4", features=()).corpus
    for extractor, says in (("samples", "but not what was printed: audio: samples (1)"), ("waveform", "so that")):
        array = table.Array(np.ones((len(corpus.ids), 1)), "audio", extractor)
        store.add(lab / "iemocap4", corpus, "waveforms", array)
        (line,) = doctor.describe({}, papers)["protocols"]["lab"]["gia_mic"]
        assert f"iemocap4: the array waveforms is here, {says}" in protocols.as_text(line)
    weights = small_twin.parent / "weights" / "EfficientFace_Trained_on_AffectNet7.pth.tar"
    weights.parent.mkdir()
    weights.touch()
    printed = doctor.describe({}, papers)["protocols"]["lab"]
    assert printed["gia_mic"][0]["here"] and not printed["gia_mic"][0]["stands_in"]
    assert "always read" not in protocols.as_text(printed["gia_mic"][0])
    store.path(lab / "iemocap4", "audio").unlink()
    written = doctor.as_text(doctor.describe({"gia_mic": {"iemocap4": ["audio"]}}, papers[:1]))
    assert "waveforms is here" in written and "pooled_mlp always read the array audio, which is not here" in written
    assert {line["corpus"] for line in printed["attsf_net"] if line["weights_here"]} == {"ravdess", "iemocap4"}
