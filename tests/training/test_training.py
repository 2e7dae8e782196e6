"""Training: what is selected, what it may see, and that a stopped run ends with the same bits."""

import copy
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from merlib import registry
from merlib.data import batches, inputs
from merlib.data.folders import Dataset
from merlib.data.store import Feature
from merlib.files import is_as_written
from merlib.places import CHECKOUT
from merlib.training import loop, prediction
from merlib.training.metrics import Judge
from merlib.twins import dialogues

ROOT = CHECKOUT
RECIPE = {
    "optimizer": "adam", "lr": 3e-3, "beta1": 0.9, "beta2": 0.999, "weight_decay": 1e-5, "batch": 8, "epochs": 6,
    "patience": 9,
    "clip": 1.0, "precision": "float32", "schedule": "plateau", "schedule_factor": 0.5, "schedule_every": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def data():
    corpus, arrays = dialogues.make("meld", scale=0.05)
    dataset = Dataset(corpus, {name: Feature(values, None) for name, values in arrays.items()})
    data = {"unit": "dialogue", "modalities": "TAV", "standardize": True} | {m: m for m in arrays}
    return corpus.labels, inputs.splits(dataset, data=data, protocol={"split": "corpus", "validation": "corpus"})


class Net(nn.Module):
    """A recurrent net with dropout: small, and all of its randomness counts."""

    def __init__(self, dims, classes):
        super().__init__()
        self.names = list(dims)
        self.rnn = nn.GRU(sum(dims.values()), 16, batch_first=True)
        self.out = nn.Sequential(nn.Dropout(0.3), nn.Linear(16, classes))

    def forward(self, batch):
        h = self.rnn(torch.cat([batch[m] for m in self.names], -1))[0]
        return {"logits": self.out(h), "embedding": h}


class Watch:
    """An observer that scores nothing but keeps count, and can stop the run as a kill would."""

    def __init__(self, stop_after=None):
        self.stop_after, self.state = stop_after, {"seen": 0}

    def __call__(self, epoch, model):
        self.state["seen"] += 1
        if epoch == self.stop_after:
            raise KeyboardInterrupt
        return {"test/seen": self.state["seen"]}


def run(data, *, recipe=RECIPE, label="fit", **options):
    labels, splits = data
    torch.manual_seed(0)
    model = Net(batches.dims(splits["train"]), len(labels))
    counts = torch.bincount(splits["train"].label, minlength=len(labels))
    loss = registry.build("loss", {"name": "cross_entropy", "class_weights": "none"}, class_counts=counts)
    return loop.fit(
        model,
        loss,
        splits["train"],
        splits["val"],
        recipe=recipe,
        judge=Judge(labels, "weighted_f1"),
        seed=1,
        progress=False,
        label=label,
        **options,
    )


def same(one: loop.Fit, other: loop.Fit) -> bool:
    equal = all(torch.equal(value, other.best_state[name]) for name, value in one.best_state.items())
    return equal and one.history == other.history and one.best_epoch == other.best_epoch


def test_same_seed_same_bits_and_another_seed_others(data):
    assert same(run(data), run(data))
    assert not same(run(data), run(data, recipe=RECIPE | {"lr": 1e-3}))


@pytest.mark.parametrize("stopped_after", [0, 2, 4])
def test_a_resumed_run_ends_with_the_same_bits(data, tmp_path, stopped_after):
    whole = run(data, observer=Watch())
    file = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        run(data, observer=Watch(stopped_after), checkpoint=file, checkpoint_seconds=0)
    assert same(run(data, observer=Watch(), checkpoint=file, checkpoint_seconds=0), whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_epoch_end_and_keeps_it(data, tmp_path, number):
    class Signalled(Watch):
        def __call__(self, epoch, model):
            if epoch == 2:
                os.kill(os.getpid(), number)
            return super().__call__(epoch, model)

    def stop(*_):
        raise SystemExit("the handler of before")

    whole, file, before = run(data, observer=Watch()), tmp_path / "checkpoint.pt", signal.signal(number, stop)
    try:
        with pytest.raises(SystemExit, match="the handler of before"):
            run(data, observer=Signalled(), checkpoint=file, checkpoint_seconds=1e6)
        assert signal.getsignal(number) is stop
    finally:
        signal.signal(number, before)
    assert torch.load(file)["epoch"] == 3 and is_as_written(file)
    assert same(run(data, observer=Watch(), checkpoint=file), whole)


def test_a_damaged_checkpoint_is_set_aside_and_training_begins_anew(data, tmp_path, capsys):
    whole, file = run(data, observer=Watch()), tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        run(data, observer=Watch(3), checkpoint=file, checkpoint_seconds=0)
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    assert same(run(data, observer=Watch(), checkpoint=file), whole)
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{file} is not what was written there" in line and (tmp_path / "checkpoint.pt.damaged").exists()


def no_memory(*_, **__):
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: 12")


@pytest.mark.parametrize("error", [no_memory, MemoryError("Unable to allocate 8 GiB"), torch.OutOfMemoryError("CUDA")])
def test_where_memory_runs_out_the_message_says_what_needs_less(data, monkeypatch, error):
    def backward(*_, **__):
        raise error if isinstance(error, Exception) else no_memory()

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    with pytest.raises(loop.TrainingError, match=r"out of memory at epoch 1, step 1: lower train.batch \(8\)"):
        run(data)


def test_a_full_disk_is_said(data, tmp_path, monkeypatch):
    def full(*_):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="checkpoint.pt could not be written.*free space and run again"):
        run(data, checkpoint=tmp_path / "checkpoint.pt", checkpoint_seconds=0)


def test_activations_computed_anew_give_the_same_bits(data, monkeypatch):
    monkeypatch.setitem(prediction.DIALOGUES, "cpu", 3)  # batches of eight in three buckets, with dropout
    anew = run(data)
    monkeypatch.setattr(prediction, "RECOMPUTE", False)
    assert same(run(data), anew)


def test_half_precision_is_that_of_the_forward_pass_alone(data, monkeypatch):
    monkeypatch.setattr(prediction, "has_bf16", lambda device: True)  # slow on some processors, which this one may be
    dtypes = set()

    class Spying(Net):
        def forward(self, batch):
            outputs = super().forward(batch)
            dtypes.add(outputs["logits"].dtype)
            return outputs

    labels, splits = data
    network = Spying(batches.dims(splits["test"]), len(labels))
    single, half = (prediction.predict(network, splits["test"], precision=name) for name in ("float32", "bf16"))
    assert dtypes == {torch.float32, torch.bfloat16} and half["logits"].dtype == torch.float32
    torch.testing.assert_close(single["logits"], half["logits"], rtol=0.1, atol=0.02)
    monkeypatch.setattr(sys.modules[__name__], "Net", Spying)
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        dtypes.clear()
        run(data, recipe=RECIPE | {"epochs": 1, "precision": name})
        assert dtypes == {dtype}, "when it trains and when it validates"


def test_a_processor_without_bf16_computes_in_float32(monkeypatch):
    def refuses(*args):
        raise RuntimeError("could not create a primitive descriptor for the LSTM forward propagation primitive")

    state = torch.get_rng_state()
    assert prediction.has_bf16.__wrapped__("cpu") in (True, False)
    monkeypatch.setattr(torch, "lstm", refuses)
    assert not prediction.has_bf16.__wrapped__("cpu") and prediction.has_bf16.__wrapped__("cuda")
    assert torch.equal(torch.get_rng_state(), state)
    for has, dtype in ((False, torch.float32), (True, torch.bfloat16)):
        monkeypatch.setattr(prediction, "has_bf16", lambda device, has=has: has)
        with prediction.autocast("cpu", "bf16"):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.parametrize(
    ("layers", "dropout", "device", "draws"),
    [(2, 0.3, "cuda", True), (2, 0.3, "cpu", False), (1, 0.0, "cuda", False), (2, 0.0, "cuda", False)],
)
def test_nothing_is_computed_anew_where_cudnn_draws_other_masks(layers, dropout, device, draws):
    network = nn.Sequential(nn.Dropout(0.5), nn.GRU(2, 2, layers, dropout=dropout))
    assert prediction._draws_dropout_in_cudnn(network, device) is draws


def test_the_observer_cannot_influence_the_fit(data):
    plain, watched = run(data), run(data, observer=Watch())
    assert all(torch.equal(value, watched.best_state[name]) for name, value in plain.best_state.items())


def test_the_selected_epoch_is_the_first_best_on_validation(data):
    done = run(data)
    scores = [row["val/weighted_f1"] for row in done.history]
    assert (done.best_epoch, done.best_score) == (int(np.argmax(scores)), max(scores))


def test_patience_stops_a_run_that_no_longer_improves(data):
    done = run(data, recipe=RECIPE | {"lr": 0.0, "epochs": 20, "patience": 3})
    assert done.best_epoch == 0 and len(done.history) == 4


@pytest.mark.parametrize(
    ("schedule", "expected"), [("step", [3e-3, 3e-3, 1.5e-3, 1.5e-3, 7.5e-4, 7.5e-4]), ("plateau", [3e-3] * 6)]
)
def test_the_learning_rate_follows_the_schedule(data, schedule, expected):
    every = 2 if schedule == "step" else 100
    done = run(data, recipe=RECIPE | {"schedule": schedule, "schedule_every": every})
    assert [row["lr"] for row in done.history] == pytest.approx(expected)


def test_an_epoch_is_drawn_from_seed_and_number_alone(data, monkeypatch):
    """So a resumed run needs no state of a generator; other draws are other numbers, under another VERSION."""
    drawn, packed = [], loop.forward_packed

    def forward(model, train, items, **options):
        drawn.append(items)
        return packed(model, train, items, **options)

    monkeypatch.setattr(loop, "forward_packed", forward)
    run(data, recipe=RECIPE | {"epochs": 2})
    n, expected = len(data[1]["train"]), []
    for epoch in range(2):
        torch.manual_seed(1_000_003 * 1 + epoch)
        expected += torch.randperm(n).split(8)
    assert [items.tolist() for items in drawn] == [items.tolist() for items in expected]


def test_the_losses_of_an_epoch_are_means_over_its_steps(data):
    class Counting(nn.Module):
        """The number of the step as a loss, with a gradient of known length."""

        def __init__(self):
            super().__init__()
            self.steps, self.slope = 0, nn.Parameter(torch.zeros(()))

        def forward(self, outputs, target):
            self.steps += 1
            return {"loss": self.steps * (1 + self.slope), "twice": torch.tensor(2.0 * self.steps)}

    labels, splits = data
    steps, loss = -(-len(splits["train"]) // 8), Counting()
    done = loop.fit(
        Net(batches.dims(splits["train"]), len(labels)), loss, splits["train"], splits["val"], seed=0, progress=False,
        recipe=RECIPE | {"epochs": 1, "lr": 0.0}, judge=Judge(labels, "weighted_f1"),
    )  # fmt: skip
    (row,) = done.history
    mean = (steps + 1) / 2
    assert [row[f"train/{name}"] for name in ("loss", "twice", "grad_norm")] == pytest.approx([mean, 2 * mean, mean])
    assert row["val/loss"] == steps + 1 and done.seconds > 0


def test_the_bar_shows_the_score_that_selects_and_the_best(data, monkeypatch):
    bars = []

    class Bar(list):
        def __init__(self, epochs, **options):
            super().__init__(epochs)
            self.options, self.postfixes = options, []
            bars.append(self)

        def set_postfix(self, postfix):
            self.postfixes.append(postfix)

    monkeypatch.setattr(loop, "tqdm", Bar)
    done = run(data, label="ours meld")
    (bar,) = bars
    assert bar == list(range(6))
    assert bar.options == {"initial": 0, "total": 6, "desc": "ours meld", "disable": True, "leave": False}
    scores = [row["val/weighted_f1"] for row in done.history]
    assert [postfix["weighted_f1"] for postfix in bar.postfixes] == [f"{score:.3f}" for score in scores]
    best = [int(np.argmax(scores[: epoch + 1])) for epoch in range(6)]
    assert [postfix["best"] for postfix in bar.postfixes] == [f"{scores[e]:.3f} @{e + 1}" for e in best]


def test_a_run_computes_deterministically_whatever_was_set_before():
    def state() -> list:
        cuda = torch.backends.cuda
        attention = [cuda.mem_efficient_sdp_enabled(), cuda.flash_sdp_enabled(), cuda.cudnn_sdp_enabled()]
        filled = torch.utils.deterministic.fill_uninitialized_memory
        return [torch.get_deterministic_debug_mode(), filled, *attention, torch.backends.cudnn.allow_tf32]

    torch.set_deterministic_debug_mode("default")
    torch.utils.deterministic.fill_uninitialized_memory = torch.backends.cudnn.allow_tf32 = True
    for enable in ("mem_efficient", "flash", "cudnn"):
        getattr(torch.backends.cuda, f"enable_{enable}_sdp")(True)
    loop.make_deterministic()
    assert state() == [2, False, False, False, False, False]
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_predictions_keep_the_order_of_the_ids_whatever_the_batch(data):
    labels, splits = data
    torch.manual_seed(0)
    model = Net(batches.dims(splits["test"]), len(labels))
    whole, single = (prediction.predict(model, splits["test"], batch=size)["logits"] for size in (100, 1))
    torch.testing.assert_close(whole, single, rtol=1e-4, atol=1e-5)
    some = torch.tensor([5, 2])
    packed, target = prediction.forward_packed(model, splits["test"], some, bucket=1)
    assert len(packed["logits"]) == len(target["label"]) == splits["test"].lengths[some].sum()


def test_a_fit_tells_of_a_term_that_runs_away_and_trains_on(data, capsys):
    class Drifting(nn.Module):
        """A term that grows thirtyfold with every step of training."""

        steps = 0

        def forward(self, outputs, target):
            self.steps += torch.is_grad_enabled()
            loss = nn.functional.cross_entropy(outputs["logits"], target["label"])
            return {"loss": loss, "drift": loss.detach() * -(30.0**self.steps)}

    labels, splits = data
    model = Net(batches.dims(splits["train"]), len(labels))
    one_step = RECIPE | {"batch": len(splits["train"])}
    done = loop.fit(
        model, Drifting(), splits["train"], splits["val"], recipe=one_step, judge=Judge(labels, "weighted_f1"), seed=4,
        progress=False, label="drifting row",
    )  # fmt: skip
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("drifting row, seed 4: drift runs away in epoch 3 (-") and len(done.history) == 6


def test_a_gradient_that_is_not_finite_stops_with_the_place_and_a_remedy(data):
    class Broken(nn.Module):
        def forward(self, outputs, target):
            return {"loss": outputs["logits"].sum() * float("inf")}

    labels, splits = data
    with pytest.raises(loop.TrainingError, match="epoch 1, step 1.*lower train.lr"):
        loop.fit(
            Net(batches.dims(splits["train"]), len(labels)), Broken(), splits["train"], splits["val"], recipe=RECIPE,
            judge=Judge(labels, "weighted_f1"), seed=0, progress=False,
        )  # fmt: skip


class Each(nn.Module):
    """Scores of each utterance by itself."""

    def forward(self, batch):
        x = batch["text"]
        return {"logits": x[..., :3], "logits_binary": x[..., 3:5], "logits_text": x[..., 5:6], "embedding": x[..., 6:]}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", [1, 4])
def test_an_output_that_is_not_finite_is_no_prediction(data, value, column):
    test = data[1]["test"]
    network, text = Each(), test.features["text"].clone()
    text[:, 5:] = value  # of these outputs no prediction is made
    unscored = replace(test, features=test.features | {"text": text.clone()})
    assert len(prediction.predict(network, unscored)["logits"]) == len(test.ids)
    text[[7, 4, 9], column] = value
    for batch in (None, 2):
        with pytest.raises(loop.TrainingError) as error:
            prediction.predict(network, replace(test, features=test.features | {"text": text}), batch=batch)
        said = f"3 of {len(test.ids)} utterances have an output that is not finite, first {test.ids[4]}: "
        assert str(error.value) == f"{said}look for huge values in their arrays, or lower train.lr"


def test_a_fit_stops_at_outputs_on_val_that_are_not_finite(data):
    labels, splits = data
    text = splits["val"].features["text"].clone()
    text[2, 0] = math.nan
    val = replace(splits["val"], features=splits["val"].features | {"text": text})
    with pytest.raises(loop.TrainingError, match=f"utterances have an output.*first {val.ids[2]}: look for huge"):
        run((labels, splits | {"val": val}))


@pytest.mark.parametrize("key", ["optimizer", "schedule", "precision"])
def test_an_unknown_choice_names_the_known_ones(data, key):
    with pytest.raises(ValueError, match="there (is|are)"):
        run(data, recipe=copy.deepcopy(RECIPE) | {key: "magic"})


def test_a_run_killed_in_the_middle_ends_with_the_same_numbers(tmp_path):
    """`kill -9` while the real command trains; then the same command again, against one that was never killed."""
    command = [sys.executable, "-m", "merlib", "run", "mfcre", "table3", "bigru"]
    env = os.environ | {"MERLIB_DATA": str(tmp_path / "data"), "MERLIB_CHECKPOINT_SECONDS": "0", "OMP_NUM_THREADS": "1"}

    def start(results: str) -> subprocess.Popen:
        return subprocess.Popen(
            command, cwd=ROOT, env=env | {"MERLIB_RESULTS": str(tmp_path / results)}, stderr=subprocess.DEVNULL
        )

    assert start("whole").wait(timeout=120) == 0
    killed = start("killed")
    deadline = time.monotonic() + 60
    while not list((tmp_path / "killed").glob("cache/runs/*/checkpoint.pt")):
        assert killed.poll() is None and time.monotonic() < deadline, "no checkpoint was written before the end"
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not list((tmp_path / "killed").glob("cache/runs/*/run.json")), "the run ended before it was killed"
    assert start("killed").wait(timeout=120) == 0
    one, other = [next((tmp_path / r).glob("cache/runs/*/")) / "predictions.npz" for r in ("whole", "killed")]
    with np.load(one) as a, np.load(other) as b:
        assert set(a) == set(b) and all(np.array_equal(a[k], b[k]) for k in a)
    records = [(tmp_path / r / "twin" / "records" / "mfcre" / "table3.csv").read_text() for r in ("whole", "killed")]
    values = [[line.split(",")[:7] for line in text.splitlines()] for text in records]
    assert values[0] == values[1]
