"""The printed protocol runs where a root has its arrays; what stands in where it has not is chosen, and said."""

import numpy as np
import pytest

from merlib import declarations, study
from merlib.data import folders, store
from merlib.data.table import Array
from merlib.declarations import BASE
from merlib.errors import DeclarationError
from merlib.study import costs, planning, records

# paper, corpus, modality: printed array, the one that stands in, name, and leaves typed by hand of each
PRINTED = {
    ("gia_mic", "iemocap4", "audio"): (
        "waveforms", "audio", "stored_speech",
        {"model.extractors.audio.encoder": "microsoft/wavlm-large", "model.extractors.audio.checkpointing": True},
        {"model.extractors.audio.encoder": "vectors", "model.extractors.audio.checkpointing": False},
    ),
    ("attsf_net", "ravdess", "visual"): (
        "faces", "visual", "face_vectors",
        {"model.encoder.visual.name": "efficientface", "data.standardize": False},
        {"model.encoder.visual.name": "vectors", "data.standardize": True},
    ),
    ("mpaf_net", "iemocap8", "text"): (
        "text_states", "text", "stored_text",
        {"model.encoders.text.encoder": "bert-base-uncased", "model.encoders.text.tuned_layers": 2},
        {"model.encoders.text.encoder": "vectors", "model.encoders.text.tuned_layers": 2},
    ),
}  # fmt: skip
EVERY = pytest.mark.parametrize(("where", "expected"), PRINTED.items(), ids=[paper for paper, _, _ in PRINTED])
NAMES = ("text", "audio", "visual")


def root(corpus: str, *arrays: str) -> str:
    """A data root with a corpus and arrays by name only, which is all that planning reads."""
    folder = folders.root_path("lab") / corpus / "features"
    folder.mkdir(parents=True, exist_ok=True)
    folder.with_name("corpus.json").touch()
    for array in arrays:
        (folder / f"{array}.safetensors").touch()
    return "lab"


def resolved(paper: str, corpus: str, data: str, **change) -> dict:
    declared = declarations.load(paper)
    return declared.flat(planning.recipe_on(declared, BASE, corpus, data=data, change=change.get("change")))


@EVERY
def test_the_arrays_of_a_root_decide_between_the_printed_protocol_and_what_stands_in(data_folder, where, expected):
    (paper, corpus, modality), (printed, array, name, as_printed, instead) = where, expected
    others = [other for other in NAMES if other != modality]
    without = resolved(paper, corpus, root(corpus, array, *others))
    assert instead.items() <= without.items() and without[f"data.{modality}"] == array
    both = resolved(paper, corpus, root(corpus, printed))
    assert as_printed.items() <= both.items() and both[f"data.{modality}"] == printed
    assert resolved(paper, corpus, "lab", change={f"substitute.{name}": True}) == without
    by_hand = declarations.recipe(declarations.load(paper), BASE, corpus, change={f"substitute.{name}": True})
    assert declarations.load(paper).flat(by_hand) == without, "nothing but the substitute's leaves has changed"
    kept = {key: value for key, value in both.items() if key not in {*as_printed, f"data.{modality}"}}
    assert kept.items() <= without.items()


@EVERY
def test_what_a_user_refuses_does_not_stand_in_and_the_row_says_what_is_absent(data_folder, where, expected):
    (paper, corpus, modality), (printed, array, name, *_) = where, expected
    declared = declarations.load(paper)
    options = {"row": "default", "data": root(corpus, *NAMES)}
    planned, skipped = planning.plan(declared, "readings", **options, change={f"substitute.{name}": False})
    assert not planned and len(skipped) == 1 and skipped[0].endswith(f": no {printed}")
    planned, skipped = planning.plan(declared, "readings", **options)
    assert not skipped and all(item.run.recipe["data"][modality] == array for item in planned)


def test_a_row_that_refuses_a_substitute_runs_as_printed_or_not_at_all(data_folder):
    attsf, options = declarations.load("attsf_net"), {"row": "augmentation_lineage", "data": root("ravdess", *NAMES)}
    planned, skipped = planning.plan(attsf, "readings", **options)
    assert not planned and skipped == ["augmentation_lineage on ravdess (AV): no faces"]
    root("ravdess", "faces")
    planned, skipped = planning.plan(attsf, "readings", **options)
    assert not skipped and {item.run.recipe["data"]["visual"] for item in planned} == {"faces"}


def test_systems_without_an_encoder_that_learns_have_the_stored_array_on_every_root(data_folder):
    gia, data = declarations.load("gia_mic"), root("iemocap4", "text", "audio", "visual", "waveforms")
    read = {row.id: run.recipe["data"]["audio"] for row, _, run in study.runs_of(gia, "table2", data=data)}
    assert read["gia_mic_vst"] == read["baseline_st"] == "waveforms"
    assert read["logistic_s"] == read["pooled_mlp_st"] == "audio"


def test_a_row_that_names_its_array_or_its_leaves_keeps_them(data_folder):
    mpaf, data = declarations.load("mpaf_net"), root("iemocap8", "text", "audio", "visual", "text_states")
    own = {"data.text": "text", "model.encoders.text.encoder": "some/bert"}
    leaves = resolved("mpaf_net", "iemocap8", data, change=own)
    assert own.items() <= leaves.items()
    assert declarations.substitutes(mpaf, "iemocap8", planning.recipe_on(mpaf, BASE, "iemocap8", data=data)) == []
    both = {"substitute.stored_text": True, "model.encoders.text.encoder": "some/bert"}
    assert own.items() <= resolved("mpaf_net", "iemocap8", data, change=both).items()


def test_a_substitute_of_no_other_array_is_taken_only_when_it_is_asked_for(data_folder):
    attsf, data = declarations.load("attsf_net"), root("ravdess", "audio", "faces")
    assert not resolved("attsf_net", "ravdess", data)["model.encoder.visual.freeze"]
    change = {"substitute.frozen_efficientface": True}
    recipe = planning.recipe_on(attsf, BASE, "ravdess", data=data, change=change)
    assert recipe["model"]["encoder"]["visual"]["freeze"] and recipe["data"]["visual"] == "faces"
    assert declarations.substitutes(attsf, "ravdess", recipe) == ["frozen_efficientface"]
    assert declarations.substitutes(attsf, "ravdess", recipe | {"data": recipe["data"] | {"modalities": "A"}}) == []


def test_the_synthetic_roots_have_what_stands_in_whatever_arrays_they_have(data_folder):
    for (paper, corpus, _), (_, _, name, _, instead) in PRINTED.items():
        declared = declarations.load(paper)
        for data in ("twin", "twin_media"):
            recipe = declarations.recipe(declared, BASE, corpus, data=data)
            assert instead.items() <= declared.flat(recipe).items()
            assert declarations.substitutes(declared, corpus, recipe) == [name]


def test_records_and_passport_lines_name_the_substitutes(tiny):
    records = study.run_table("gia_mic", "table2", row=["logistic_t", "logistic_st"], folds=[0], progress=False)
    named = dict(zip(records["row"], records["substitutes"], strict=True))
    assert named == {"logistic_t": "none", "logistic_st": "stored_speech"}
    board = study.compare("gia_mic", "table2").set_index("row")["features"]
    assert board["logistic_st"].eq(board["logistic_st"]).all()
    assert all(line.endswith("(t x 32) | absent | substitutes: stored_speech") for line in board["logistic_st"])
    assert not board["logistic_t"].str.contains("substitutes").any()


def test_what_a_run_will_take_is_not_told_by_records_of_another_protocol(tiny):
    gia, folder = declarations.load("gia_mic"), folders.root_path("twin").rename(folders.root_path("lab"))
    stored = planning.plan(gia, "table2", row="gia_mic_st", data="lab")[0][0]
    (folder / "iemocap4" / "features" / "audio.safetensors").rename(folder / "audio.safetensors")
    corpus = folders.dataset("lab", "iemocap4", features=()).corpus
    store.add(folder / "iemocap4", corpus, "waveforms", Array(np.ones((len(corpus.ids), 1)), "audio", "samples"))
    printed = planning.plan(gia, "table2", row="gia_mic_st", data="lab")[0][0]
    about = {"data": "lab", "row": "gia_mic_st", "column": "ua", "fold": 0, "selection": "val", "value": 50, "n": 9}
    about |= {"seconds": 40.0, "peak_memory_mb": 9.0}
    records.write_records("gia_mic", "table2", "lab", [about | {"seed": 0}])
    learns = gia.substitute["stored_speech"].learns
    computed = costs.predict(gia, "table2", printed, "lab")
    seen = np.count_nonzero(printed.run.split == "train") * 40
    assert computed.basis == "computed" and computed.memory_mb == round(1000 * learns.gigabytes(32))
    assert computed.seconds == pytest.approx(learns.seconds(seen, "bf16"), abs=0.1) and seen
    assert costs.predict(gia, "table2", stored, "lab").seconds == 40, "an old record has what stood in then"
    records.write_records("gia_mic", "table2", "lab", [about | {"seed": 1, "substitutes": "none", "seconds": 900.0}])
    assert costs.predict(gia, "table2", printed, "lab").seconds == 900
    assert costs.predict(gia, "table2", stored, "lab").seconds == 40


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('modality = "audio"', 'modality = "speech"', "input should be 'text', 'audio' or 'visual'"),
        ('data.audio = "audio" }', 'data.visual = "faces" }', "of audio, must not change data.visual"),
        ('audio.checkpointing = false, data', "audio.checkpoint = false, data", "checkpoint' is no leaf of gia_mic"),
        ('always = ["majority",', 'always = ["minority",', "'minority' is no base of gia_mic"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_substitute_is_named(tmp_path, monkeypatch, old, new, says):
    source = declarations.folders()["gia_mic"]
    text = (source / "paper.toml").read_text()
    assert text.count(old) == 1
    folder = tmp_path / "gia_mic"
    folder.mkdir()
    (folder / "paper.toml").write_text(text.replace(old, new))
    monkeypatch.setenv("MERLIB_PAPERS", str(tmp_path))
    with pytest.raises(DeclarationError, match=says):
        declarations.load("gia_mic")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"substitute.stored_text": True}, "unknown recipe key 'substitute.stored_text'; did you mean"),
        ({"substitute.stored_speech": "yes"}, "expected true or false"),
    ],
)
def test_a_wrong_choice_of_a_substitute_is_refused(change, says):
    with pytest.raises(DeclarationError, match=says):
        declarations.recipe(declarations.load("gia_mic"), BASE, "iemocap4", change=change)
