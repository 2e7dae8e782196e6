"""The runs of a table: every fold, the modalities that the root has, several levels of noise on one training."""

import shutil

import pytest

from merlib import cli, declarations, study
from merlib.data.table import CorpusError
from merlib.study import planning, runs


def ids(paper: str, table: str, row: str, corpus: str, data: str = "twin") -> list[str]:
    planned = study.runs_of(declarations.load(paper), table, row=row, data=data)
    return [run.id for _, its, run in planned if its == corpus]


def test_a_corpus_with_folds_is_trained_once_a_fold(twin):
    assert len(set(ids("attsf_net", "6", "audio", "ravdess"))) == 5
    assert len(ids("attsf_net", "6", "audio", "iemocap4")) == 1
    assert len(set(ids("gia_mic", "1", "gia_mic_gt", "iemocap4"))) == 5
    assert len(set(ids("mpaf_net", "5", "mpaf_net_all_rotations", "iemocap8"))) == 10


def test_folds_can_be_shared_out_between_batches(tiny):
    options = {"row": "majority", "progress": False}
    whole = study.run_table("gia_mic", "1", **options)
    file = study.records_path("gia_mic", "table1", "twin")
    together = file.read_bytes()
    file.unlink()
    assert set(study.run_table("gia_mic", "1", folds=(1, 3), **options)["fold"]) == {1, 3}
    assert "partial" in study.compare("gia_mic", "table1", "twin").set_index("row")["doubt"]["majority"].iloc[0]
    study.run_table("gia_mic", "1", folds=(0, 2, 4), **options)
    assert set(whole["fold"]) == set(range(5)) and file.read_bytes() == together


def test_a_fold_that_is_not_there_is_refused(places, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["run", "gia_mic", "table1", "majority", "--folds", "0,5"])
    assert stopped.value.code == 2 and "folds 0 to 4" in capsys.readouterr().err
    with pytest.raises(ValueError, match="folds 0 to 4"):
        study.run_table("gia_mic", "table1", row="majority", folds=(-1,))


def test_noise_at_test_time_shares_one_training(twin):
    quiet = ids("attsf_net", "7", "attsf_net", "ravdess")
    assert (
        quiet == ids("attsf_net", "5", "net_audio_10", "ravdess") == ids("attsf_net", "5", "net_visual_90", "ravdess")
    )
    assert quiet != ids("attsf_net", "5", "gat_audio_10", "ravdess")


def test_more_noise_is_scored_on_the_network_that_was_trained(twin):
    change = {"train.epochs": 2, "readings.ravdess_split": "clips"}
    results = {}
    for row in ("net_audio_10", "net_audio_90"):
        _, _, run = study.runs_of(declarations.load("attsf_net"), "5", row=row, change=change)[0]
        results[row] = runs.execute(run, progress=False, label="test")
    assert results["net_audio_10"]["history"] == results["net_audio_90"]["history"]
    scores = [result["selected"]["val"]["scores"] for result in results.values()]
    assert scores[0] != scores[1] and list(results["net_audio_10"]["selected"]) == ["val"]


@pytest.fixture
def without_visual(twin):
    shutil.copytree(twin / "data" / "twin" / "iemocap4", twin / "data" / "lab" / "iemocap4")
    for name in ("visual", "text_asr"):
        (twin / "data" / "lab" / "iemocap4" / "features" / f"{name}.safetensors").unlink()


def test_the_headline_runs_with_what_is_there(without_visual):
    planned = study.runs_of(declarations.load("gia_mic"), "2", row="gia_mic_vst", data="lab")
    assert {run.recipe["data"]["modalities"] for _, _, run in planned} == {"TA"}
    assert ids("gia_mic", "2", "gia_mic_vst", "iemocap4", "lab") == ids("gia_mic", "2", "gia_mic_st", "iemocap4", "lab")


@pytest.mark.parametrize(
    ("table", "row", "lacks"),
    [
        ("2", "clip", "(V): no visual"),
        ("2", "gia_mic_vs", "(AV): no visual"),
        ("1", "gia_mic_asr", "(TAV): no text_asr, visual"),
    ],
)
def test_a_row_that_asks_for_what_is_absent_is_skipped_and_says_so(without_visual, table, row, lacks):
    planned, skipped = planning.plan(declarations.load("gia_mic"), table, row=row, data="lab")
    assert planned == [] and skipped == [f"{row} on iemocap4 {lacks}"]


def test_what_the_root_settles_itself_or_cannot_augment_is_skipped_with_its_remedy(twin):
    paper = declarations.load("mpaf_net")
    leaves, leaf = "model.dim, model.pair.attention.hidden, model.head_dim", "--set model.dim=512"
    reasons = {
        ("readings.widths", "w512"): f"({leaves}: this root has its own, which only a leaf overrules: {leaf})",
        ("readings.augmentation", "minority"): "(augmentation): no audio_augmented, visual_augmented",
    }
    for (reading, option), says in reasons.items():
        change = {reading: option}
        planned, skipped = planning.plan(paper, "5", row="mpaf_net_all_rotations", change=change)
        assert planned == [] and skipped == [f"mpaf_net_all_rotations on iemocap8 {says}"]


def test_a_fraction_is_compared_as_a_fraction_and_folds_add_up(places):
    records = [
        {"data": "twin", "row": "net_audio_10", "column": "ua", "fold": fold, "seed": 0, "selection": "val", "n": 288,
         "value": value, "features": "", "never_predicted": ""}
        for fold, value in enumerate([80.0, 90.0])
    ]  # fmt: skip
    study.write_records("attsf_net", "table5", "twin", records)
    line = study.compare("attsf_net", "5").set_index("row").loc["net_audio_10"]
    assert (line["printed"], line["n_folds"]) == (0.8775, 2) and line["reproduced"] == pytest.approx(0.85)
    assert line["noise"] == pytest.approx(1.959964 * (0.85 * 0.15 / 576) ** 0.5)
    assert line["doubt"] == "partial stale", "two folds of five, and no recipe"
    whole, rest = ([records[0] | {"seed": seed, "fold": fold} for fold in range(n)] for seed, n in ((0, 5), (1, 3)))
    study.write_records("attsf_net", "table5", "twin", whole)
    assert study.compare("attsf_net", "5").set_index("row").loc["net_audio_10"]["doubt"] == "stale"
    study.write_records("attsf_net", "table5", "twin", rest)
    doubt = study.compare("attsf_net", "5").set_index("row").loc["net_audio_10"]["doubt"]
    assert doubt == "partial stale", "of one seed"


def test_a_root_without_any_corpus_says_how_to_get_one(places):
    with pytest.raises(CorpusError) as error:
        planning.plan(declarations.load("mfcre"), "table3", data="twin")
    folder = places / "data" / "twin"
    none = f"the root 'twin' ({folder}) has none of iemocap6, meld"
    assert str(error.value) == f"{none}: call merlib.twins.ensure('twin', ['iemocap6', 'meld'])"
    with pytest.raises(CorpusError, match=r"the root 'lab' .* has none of iemocap6, meld: see `merlib doctor`$"):
        planning.plan(declarations.load("mfcre"), "table3", data="lab")
