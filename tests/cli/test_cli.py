"""The command line is a contract: exit codes, and one JSON document on standard output."""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata

import nbformat
import pandas as pd
import pytest
import torch
import typer

from merlib import cli, declarations, errors, study, twins
from merlib.cli import arguments
from merlib.places import CHECKOUT, commit, data_folder, results_folder


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    try:
        cli.main(list(arguments))
        code = 0
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("MERLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MERLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(twins, "SCALE", 0.04)


def test_cells_lists_every_printed_number_with_its_recipe(capsys):
    code, out, _ = run(capsys, "cells", "--json")
    listed = json.loads(out)
    assert code == 0 and len(listed) > 400
    assert {"paper", "table", "row", "column", "printed", "kind", "corpus", "metric", "recipe", "recorded"} <= set(
        listed[0]
    )
    cell = next(c for c in listed if (c["table"], c["row"], c["column"]) == ("table4", "wo_simam", "iemocap_accuracy"))
    assert cell["printed"] == "78.76" and cell["recorded"] == []
    assert cell["recipe"]["model"]["context"]["attention"] == "none"
    assert next(c for c in listed if c["row"] == "sdt")["recipe"] is None


def test_compare_and_doctor_print_one_json_document(capsys):
    code, out, _ = run(capsys, "compare", "mfcre", "table4", "--json")
    assert code == 0
    columns = {
        "row",
        "column",
        "printed",
        "reproduced",
        "spread",
        "n_seeds",
        "n_folds",
        "test_peak",
        "difference",
        "data",
        "features",
    }
    paper = declarations.load("mfcre")
    cells = [
        cell for row in paper.table("table4").row for cell in declarations.row_cells(paper, paper.table("table4"), row)
    ]
    assert columns <= set(json.loads(out)[0]) and len(json.loads(out)) == sum(
        cell.printed is not None for cell in cells
    )
    code, out, _ = run(capsys, "doctor", "--json")
    assert code == 0 and {"roots", "missing", "access"} <= set(json.loads(out))
    code, out, _ = run(capsys, "doctor")
    assert code == 0 and "IEMOCAP" in out and "licence" in out.lower() or "release form" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "mfcr", "table4"], "'mfcr' is no paper"),
        (["run", "mfcre", "table4", "wo_everything"], "wo_simam"),
        (["run", "mfcre", "table4", "ours", "--set", "model.context.cel.name=lstm"], "did you mean"),
        (["run", "mfcre", "table4", "ours", "--set", "model.context.cell.name"], "key=value"),
        (["run", "mfcre", "table4", "ours", "--set", "model.context.cell.name=gru"], "mlstm"),
        (["run", "mfcre", "table4", "ours", "--seeds", "0,x"], "'0,x': give integers"),
        (["run"], "name a paper"),
        (["run", "--stale", "mfcre/table40"], "'table40' is no table of mfcre"),
        (["run", "--stale", "mfcre", "--set", "train.lr=1"], "goes with none of --folds, --only and --set"),
        (["audit", "--records", "--data", "reall"], "'reall' is no data root"),
        (["audit", "--records", "--write"], "goes with neither --write nor --new"),
        (["run", "mfcre"], "name a table"),
        (["run", "mfcre/table4/wo_sinam"], "'wo_sinam' is no row of mfcre/table4; .*did you mean 'wo_simam'"),
        (["run", "mfcre/tabel4/ours"], "'tabel4' is no table of mfcre; .*did you mean 'table4'"),
        (["run", "mfcre/settings"], "'settings' is no table of mfcre"),
        (["run", "mfcre/table4/ours/iemocap_accuracy"], "an address is paper/table/row"),
        (["run", "mfcre/table4/ours", "mfcre/table5/tau_0_5"], "name rows of one table"),
        (["run", "mfcre/table4/ours", "--folds", ""], "'': give integers"),
        (["run", "mfcre/table4/ours", "table5/tau_0_5"], "name rows of one table"),
        (["run", "mfcre/table4", "--device", "tpu"], "'tpu' is not one of 'cpu', 'cuda'"),
        (["against", "mfcre/table4"], "name a row"),
        (["cells", "mfcr/table4"], "'mfcr' is no paper; .*did you mean 'mfcre'"),
        (["cells", "mfcre/setings"], "did you mean 'settings'"),
        (["audit", "mfcre/table40"], "'table40' is no table of mfcre"),
        (["audit", "mfcre/table4", "--write"], "takes no paper, found 'mfcre/table4'"),
        (["notebook", "a.ipynb", "b.ipynb", "-p", "count"], "-p takes two words"),
        (["notebook", "a.ipynb", "b.ipynb", "-p", "count", "1", "-p", "x y", "1"], "-p takes two words"),
        (["data", "extract", "lab", "meld", "--recipe", "mfcre", "--workers", "65"], "less than or equal to 64"),
        (["run", "mfcre", "4", "ours", "--set", "train.schedule=cosine"], "'cosine' is no train.schedule; there are"),
        (["run", "mfcre", "table4", "ours", "--set", "protocol.split=foo"], "'foo' is no protocol.split; there are"),
        (["run", "mfcre", "table4", "ours", "--set", "train.epochs=2.5"], "whole number|integer"),
        (["run", "mfcre", "table4", "ours", "--set", "lr=1e-3"], "section.name"),
        (["compare", "mfcre", "table40"], "table4"),
        (["compare", "mfcre", "table4", "--data", "reall"], "'reall' is no data root; there are: twin, twin_media"),
        (["report", "--data", "reall"], "'reall' is no data root"),
        (["data", "import", "csv", "nothing.csv", "mine"], "'csv' is no kind of source; there are: .*meld"),
        (["data", "text", "twin", "iemocap6"], "the root 'twin' is synthetic"),
        (["data", "extract", "twin_media", "iemocap6", "--recipe", "mfcre"], "the root 'twin_media' is synthetic"),
        (["data", "extract", "lab", "meld", "--recipe", "mfcre", "--modalities", "audio"], "T text, A audio, V visual"),
        (["nonsense"], "No such command 'nonsense'"),
        ([], "Missing command"),
    ],
)
def test_bad_arguments_exit_with_2_and_say_what_would_be_right(capsys, arguments, says):
    code, out, err = run(capsys, *arguments)
    assert code == 2 and out == "" and re.search(says, err)
    assert "Traceback" not in err and not results_folder("reall").exists()


WITH_DEVICE = {
    "run": ["mfcre/table4"], "multiverse": ["mfcre"], "data text": ["lab", "meld"],
    "data extract": ["lab", "meld", "--recipe", "mfcre"], "data fine-tune": ["lab", "meld", "mfcre", "tuned"],
}  # fmt: skip


def test_every_command_refuses_a_gpu_that_is_not_there(capsys, monkeypatch, places):
    app = typer.main.get_command(cli.app)
    groups = {"": app.commands, "data ": app.commands["data"].commands}
    commands = {prefix + name: command for prefix, group in groups.items() for name, command in group.items()}
    assert WITH_DEVICE.keys() == {
        name for name, command in commands.items() if "device" in {param.name for param in command.params}
    }
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, words in WITH_DEVICE.items():
        code, out, err = run(capsys, *name.split(), *words, "--device", "cuda")
        assert (code, out) == (2, "") and err.startswith("merlib: --device cuda: PyTorch finds no GPU here; take"), name
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [arguments.device(name) for name in (None, "cpu", "cuda")] == [None, "cpu", "cuda"]


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        (["mfcre", "table4", "ours"], ("ours",)),
        (["mfcre", "4", "ours"], ("ours",)),
        (["mfcre/table4/ours"], ("ours",)),
        (["mfcre/4/ours"], ("ours",)),
        (["mfcre", "table4/ours"], ("ours",)),
        (["mfcre/table4"], ()),
        (["mfcre", "table4"], ()),
        (["mfcre/table4/"], ()),
        (["mfcre/table4/wo_simam", "ours"], ("wo_simam", "ours")),
        (["mfcre/table4", "wo_simam", "ours"], ("wo_simam", "ours")),
        (["mfcre", "table4", "wo_simam", "ours"], ("wo_simam", "ours")),
        (["mfcre/table4/wo_simam", "mfcre/table4/ours"], ("wo_simam", "ours")),
        (["mfcre/table4/wo_simam", "mfcre/4/ours"], ("wo_simam", "ours")),
        (["mfcre", "table4/wo_simam", "table4/ours"], ("wo_simam", "ours")),
    ],
    ids=" ".join,
)
def test_an_address_is_one_word_or_its_parts_with_blanks(words, rows):
    assert arguments.address(words) == ("mfcre", "table4", rows)


def test_an_address_may_stop_early():
    assert arguments.address([]) == ("", "", ()) and arguments.address(["mfcre"]) == ("mfcre", "", ())
    assert arguments.address(["mfcre/settings/train.batch"], text=True) == ("mfcre", "settings", ("train.batch",))


def test_every_command_takes_an_address(capsys, monkeypatch):
    assert run(capsys, "compare", "mfcre/table4", "--json") == run(capsys, "compare", "mfcre", "table4", "--json")
    rows = json.loads(run(capsys, "compare", "mfcre/table4/wo_simam", "ours", "--json")[1])
    assert {line["row"] for line in rows} == {"wo_simam", "ours"} and len(rows) == 8
    cells = json.loads(run(capsys, "cells", "mfcre/table4/wo_simam", "--json")[1])
    assert {(c["paper"], c["table"], c["row"]) for c in cells} == {("mfcre", "table4", "wo_simam")} and len(cells) == 4
    every = json.loads(run(capsys, "audit", "hff", "--json")[1])
    assert every and {finding["paper"] for finding in every} == {"hff"}
    table = every[0]["table"]
    some = json.loads(run(capsys, "audit", f"hff/{table}", "--json")[1])
    assert some == [finding for finding in every if finding["table"] == table]
    calls = []
    monkeypatch.setattr(twins, "ensure", lambda data, corpora: calls.append((data, list(corpora))))
    monkeypatch.setattr(study, "run_table", lambda paper, table, *, row, **_: calls.append(row) or pd.DataFrame())
    run(capsys, "run", "mfcre/table4/wo_simam", "ours")
    assert calls == [("twin", ["iemocap6", "meld"]), ("wo_simam", "ours")], "the twin is made before anything reads"


def test_against_says_what_has_not_run(capsys):
    code, out, err = run(capsys, "against", "mfcre/table4/wo_simam", "ours")
    assert code == 1 and out == "" and "no outcomes of wo_simam, ours, seed 0" in err
    assert "merlib run mfcre table4 wo_simam ours" in err


@pytest.mark.parametrize("command", ["cells", "audit", "compare mfcre/table4", "doctor"])
def test_json_is_one_document_and_standard_output_holds_nothing_else(command, tmp_path):
    record = {"data": "lab", "row": "ours", "column": "iemocap_accuracy", "fold": 0, "seed": 0, "selection": "val"}
    study.write_records("mfcre", "table4", "lab", [record | {"value": 70.0, "n": 100}])
    done = merlib(*command.split(), "--json")
    json.loads(done.stdout)
    assert done.returncode == 0 and "Traceback" not in done.stderr


def merlib(*words: str, **env: str) -> subprocess.CompletedProcess:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "merlib", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | env)


def test_version_is_that_of_the_package_and_the_commit(capsys):
    assert run(capsys, "--version") == (0, f"merlib {metadata.version('merlib')}, commit {commit()}\n", "")


def test_help_is_plain_and_says_what_a_command_does(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0 and "Train the missing runs" in out and "--install-completion" in out and "--version" in out
    assert run(capsys, "-h")[1] == out
    code, out, _ = run(capsys, "data", "text", "-h")
    assert code == 0 and "cls_mean" in out and out.isascii()


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("cells", "[PAPER/TABLE/ROW]..."),
        ("compare", "{PAPER/TABLE[/ROW]}..."),
        ("run", "[PAPER/TABLE[/ROW]]..."),
        ("against", "{PAPER/TABLE/ROW}..."),
        ("power", "{PAPER[/TABLE]}..."),
        ("claims", "[PAPER]..."),
        ("multiverse", "{PAPER}..."),
    ],
)
def test_help_says_which_parts_of_an_address_a_command_needs(capsys, command, parts):
    _, out, _ = run(capsys, command, "--help")
    assert out.splitlines()[0] == f"Usage: merlib {command} [OPTIONS] {parts}"
    assert ("Default: everything" in out) == (command == "cells")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("mf", {"mfcre"}),
        ("mfcre table9", {"table9"}),
        ("mfcre/table9", {"mfcre/table9"}),
        ("mfcre/table4/wo_si", {"mfcre/table4/wo_simam", "mfcre/table4/wo_simam_alone"}),
        ("mfcre table4 ours wo_sw", {"wo_swfc"}),
        ("mfcre/table4/ours wo_sw", {"wo_swfc"}),
        ("mfcre/table4/ours mfcre/table4/wo_sw", {"mfcre/table4/wo_swfc"}),
        ("mfcre/table4 --data twin_", {"twin_media"}),
        ("mfcre/table4 --data la", {"lab"}),
        ("nothing/ta", set()),
    ],
)
def test_the_shell_completes_addresses_and_data_roots(typed, offered, tmp_path):
    (tmp_path / "data" / "lab" / "meld").mkdir(parents=True)
    (tmp_path / "data" / "lab" / "meld" / "corpus.json").touch()
    words = f"merlib run {typed}"
    env = {"_MERLIB_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    done = merlib(**env)
    assert set(done.stdout.split()) == offered and done.stderr == ""


def test_completion_help_and_version_load_nothing_heavy():
    code = "import sys; import merlib.cli; print([m for m in ('torch', 'pandas', 'numpy', 'rich') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("command", ["cells", "audit mpaf_net", "compare mfcre/table4", "power mfcre", "doctor"])
def test_commands_that_only_read_load_no_torch(command):
    code = f"import sys; from merlib import cli; cli.app({command.split()}, standalone_mode=False); "
    code += "print([m for m in ('torch', 'sklearn', 'librosa', 'transformers') if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]" and done.stdout


def test_a_defect_keeps_its_plain_traceback(tmp_path):
    (tmp_path / "broken.py").write_text(
        "from merlib import cli, declarations\ndeclarations.papers = lambda *_: int('no number')\ncli.main(['cells'])\n"
    )
    done = subprocess.run([sys.executable, tmp_path / "broken.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("Traceback (most recent call last):")
    assert "ValueError: invalid literal" in done.stderr and "\u2500" not in done.stderr


def test_a_value_error_that_is_not_of_our_saying_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(declarations, "papers", lambda *_: int("no number"))
    with pytest.raises(ValueError, match="no number"):
        cli.main(["cells"])


def test_what_is_quoted_or_left_out_is_not_called_recorded(capsys):
    code, out, _ = run(capsys, "run", "mfcre", "table2", "sdt")
    assert code == 0 and "nothing to record" in out and "recorded in" not in out
    assert not results_folder("twin").exists()


def test_compare_says_where_there_are_records(capsys):
    record = {"data": "lab", "row": "ours", "column": "iemocap_accuracy", "fold": 0, "seed": 0, "selection": "val"}
    study.write_records("mfcre", "table4", "lab", [record | {"value": 70.0, "n": 100}])
    assert run(capsys, "compare", "mfcre", "4")[2] == "nothing of mfcre/table4 has run on 'twin': choose --data lab\n"
    assert run(capsys, "compare", "mfcre", "5")[2] == ""


def test_an_empty_variable_names_no_folder(monkeypatch):
    monkeypatch.setenv("MERLIB_DATA", "")
    monkeypatch.setenv("MERLIB_RESULTS", "")
    assert data_folder() == CHECKOUT / "data"
    assert results_folder("twin") == CHECKOUT / "results" / "twin"


def test_a_home_folder_in_a_variable_that_the_shell_has_not_expanded_is_meant(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DATA", "RESULTS", "PAPERS"):
        monkeypatch.setenv(f"MERLIB_{name}", f"~/{name}")
    assert data_folder() == tmp_path / "DATA" and results_folder("x") == tmp_path / "RESULTS" / "x"
    assert declarations.search_path() == [tmp_path / "PAPERS"]
    monkeypatch.setenv("MERLIB_DATA", "~nobody at all/data")
    with pytest.raises(errors.RequestError, match="'~nobody at all/data': there is no such user"):
        data_folder()


def test_without_git_the_commit_is_what_the_environment_says(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("MERLIB_COMMIT", "abc")
    assert commit.__wrapped__() == "abc"


def test_the_parameters_of_a_notebook_arrive_as_typed(capsys, monkeypatch):
    calls = []
    monkeypatch.setattr("merlib.cli.headless.run", lambda *call, code: calls.append(call))
    words = ["-p", "table", "table4", "-p", "rate", "-0.5", "-p", "seeds", "[0, 1]", "-p", "flags", "a=b"]
    assert run(capsys, "notebook", "in.ipynb", "out.ipynb", *words)[0] == 0
    ((source, target, parameters),) = calls
    assert (source.name, target.name) == ("in.ipynb", "out.ipynb")
    assert parameters == {"table": "table4", "rate": "-0.5", "seeds": "[0, 1]", "flags": "a=b"}
    assert parameters["rate"].like(1.5) == -0.5 and parameters["seeds"].like([0]) == [0, 1]


def test_a_run_that_cannot_be_done_exits_with_1(capsys, tmp_path):
    code, _, err = run(capsys, "data", "import", "prepared", str(tmp_path / "nothing.toml"), "mine")
    assert code == 1 and "nothing.toml" in err and "Traceback" not in err


def test_a_root_without_the_corpora_says_so(capsys):
    code, _, err = run(capsys, "run", "mfcre", "table4", "--data", "nowhere")
    assert code == 1 and "nowhere" in err and "merlib doctor" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_command_with_one_line_and_its_own_exit_status(capsys, monkeypatch, number):
    def stopped(*_, **__):
        os.kill(os.getpid(), number)
        time.sleep(10)

    monkeypatch.setattr(study, "run_table", stopped)
    before = signal.signal(number, signal.SIG_DFL)  # tests that run in the background ignore SIGINT
    try:
        code, _, err = run(capsys, "run", "mfcre/table1")
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert code == 128 + number and err == "merlib: stopped; what is done is kept; run again to go on\n"


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 2.00 TiB for an array"),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")])  # fmt: skip
def test_where_memory_runs_out_a_command_says_so_in_one_line(capsys, monkeypatch, error):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(study, "run_table", failing)
    code, _, err = run(capsys, "run", "mfcre/table1")
    assert code == 1 and err.startswith("merlib: out of memory: ") and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "root",
    ["../esc", "/tmp/esc", "", ".", "..", "cache", "audit", "a/b", "x; cmd", "$(cmd)", "-x", "a\nb", "a\0b", "a" * 300,
     " a", "{corpus}", "'"],
)  # fmt: skip
@pytest.mark.parametrize(
    "words",
    [
        "run mfcre/table1 --data", "compare mfcre/table4 --data", "against mfcre/table4/ours --data", "report --data",
        "plan --data", "data import meld nowhere", "data extract --recipe mfcre", "data text", "data make",
    ],
)  # fmt: skip
def test_what_cannot_name_a_data_root_is_refused_before_any_work(capsys, tmp_path, words, root):
    more = ["meld"] if words in ("data extract --recipe mfcre", "data text", "data make") else []
    dashes = ["--"] if words.startswith("data ") else []
    code, out, err = run(capsys, *words.split(), *dashes, root, *more)
    assert code == 2 and "cannot be the name of a data root" in err and out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("root", ["Meine Daten ü", "2024-05-01", "u\u0308", "real_2024", "数据", "a.b+c (2)"])
def test_a_data_root_may_have_blanks_digits_and_letters_of_any_language(capsys, root):
    code, _, err = run(capsys, "run", "mfcre/table4", "--data", root)
    assert code == 1 and "merlib doctor" in err


@pytest.mark.parametrize("words", [
    "data text lab meld --name a/b", "data text lab meld --name ../x", "data text lab ../meld",
    "data extract lab meld --recipe mfcre --name /x", "data transcribe lab a/b out.csv",
    "data word-errors lab a/b out.csv",
])  # fmt: skip
def test_what_cannot_name_an_array_or_a_corpus_is_refused(capsys, words):
    code, _, err = run(capsys, *words.split())
    assert code == 2 and "take letters, digits, and _ . -" in err


@pytest.mark.parametrize(
    ("name", "value", "module"),
    [
        ("MERLIB_TWIN_SCALE", "abc", "twins.recordings"), ("MERLIB_TWIN_SCALE", "-1", "twins.recordings"),
        ("MERLIB_TWIN_SCALE", "nan", "twins.recordings"), ("MERLIB_TWIN_SCALE", "1e9", "twins.recordings"),
        ("MERLIB_CHECKPOINT_SECONDS", "-5", "training.fitting"),
        ("MERLIB_CHECKPOINT_SECONDS", "1,5", "training.fitting"),
        ("MERLIB_RECOMPUTE", "yes", "training.prediction"), ("MERLIB_KERNEL_SECONDS", "0", ""),
    ],
)  # fmt: skip
def test_an_environment_variable_out_of_range_exits_with_2(capsys, monkeypatch, tmp_path, name, value, module):
    monkeypatch.setenv(name, value)
    source = tmp_path / "source.ipynb"
    tagged = nbformat.v4.new_code_cell("seed = 0", metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[tagged]), source)

    def load(*_, **__):
        monkeypatch.delitem(sys.modules, f"merlib.{module}", raising=False)
        importlib.import_module(f"merlib.{module}")

    words = ["run", "mfcre/table1"] if module else ["notebook", str(source), str(tmp_path / "out.ipynb")]
    monkeypatch.setattr(study, "run_table", load)
    code, _, err = run(capsys, *words)
    assert code == 2 and len(err.splitlines()) == 1, err
    assert f"the environment variable {name} is {value!r}: expected a number from" in err


@pytest.mark.parametrize(
    "change",
    ["train.lr=nan", "train.lr=-1", "train.epochs=0", "train.batch=0", "train.beta1=2.5", "model.dim=0", "model.dim=-3",
     "model.hidden=0", "train.clip=inf", "train.weight_decay=-1", "train.schedule_factor=-1", "model.dim=7"],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_with_2_in_one_line(capsys, change):
    code, _, err = run(capsys, "run", "mfcre/table3/bigru", "--set", change)
    (line,) = [line for line in err.splitlines() if line.startswith("merlib: ")]
    assert code == 2 and change.split(".")[0] in line and "Traceback" not in err


def test_a_long_message_is_cut_in_the_middle(capsys):
    for words in (["run", "x" * 100_000, "table4"], ["run", "mfcre/table4", "--seeds", "y" * 100_000],
                  ["run", "mfcre/table4", "--set", "z" * 100_000]):  # fmt: skip
        code, _, err = run(capsys, *words)
        assert code == 2 and len(err) < 2500 and "characters left out" in err
    assert errors.shortened("first\nsecond") == "first second"


def test_doctor_describes_the_others_beside_a_broken_root(capsys, tmp_path):
    twins.ensure("twin", ["meld"])
    broken = {"deep": lambda file: file.write_text("[" * 100_000), "pipe": os.mkfifo, "folder": os.mkdir,
              "bytes": lambda file: file.write_bytes(b"\xff\xfe"), "list": lambda file: file.write_text("[]"),
              "digits": lambda file: file.write_text("9" * 5000)}  # fmt: skip
    for name, make in broken.items():
        (tmp_path / "data" / name / "meld").mkdir(parents=True)
        make(tmp_path / "data" / name / "meld" / "corpus.json")
    (tmp_path / "data" / "half").mkdir()
    shutil.copytree(tmp_path / "data" / "twin" / "meld", tmp_path / "data" / "half" / "meld")
    (tmp_path / "data" / "half" / "meld" / "utterances.parquet").write_bytes(b"PAR1")
    (tmp_path / "data" / "half" / "meld" / "features" / "text.safetensors").write_bytes(b"\xff" * 100)
    code, out, err = run(capsys, "doctor", "--json")
    roots = json.loads(out)["roots"]
    assert code == 0 and err == "" and roots["twin"]["meld"]["utterances"]
    for name in (*broken, "half"):
        assert "error" in roots[name]["meld"] and len(roots[name]["meld"]["error"]) < 2500
    assert run(capsys, "doctor")[0] == 0
