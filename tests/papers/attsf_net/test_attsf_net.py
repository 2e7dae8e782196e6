"""ATTSF-Net: every declared row and reading, what a batch may not change, and the objective."""

import json
import re

import pytest
import torch
from building import alone, changed, network_of
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, Normal, kl_divergence
from torch.nn import functional as F

from merlib import declarations, registry, study, twins
from merlib.errors import DeclarationError
from merlib.papers.attsf_net.cross_attention import SimilarityEnhancement
from merlib.papers.attsf_net.loss import SIMILARITIES
from merlib.papers.attsf_net.transformer import TemporalPooling

PAPER = declarations.load("attsf_net")
DIMS = {"text": 6, "audio": 5, "visual": 4}
STEPS = {"text": 7, "audio": 16, "visual": 6}
LENGTHS = {"text": [7, 1, 4, 2, 5], "audio": [16, 13, 4, 9, 1], "visual": [3, 6, 1, 2, 4]}
LETTERS = {"T": "text", "A": "audio", "V": "visual"}
SMALL = {
    "dim": 8, "encoder.length": 5, "encoder.audio.channels": [6, 7, 6, 5], "cmb.ff": 8, "sab.ff": 8, "avam.ff": 8,
    "cmb.layers": 2, "sab.layers": 2, "avam.layers": 1, "encoder.visual.name": "vectors",
    "encoder.visual.weights": "none",
}  # fmt: skip
EXACT = {"rtol": 1e-9, "atol": 1e-9}


CASES = {
    f"{table.id}/{row.id}/{cell.corpus}": (row, cell.corpus)
    for table in PAPER.tables.values()
    for row in table.row
    if row.runs and row.kind == "own" and row.base is None
    for cell in declarations.row_cells(PAPER, table, row)
}


def recipe_of(case: str, change: dict | None = None) -> dict[str, dict]:
    """The recipe of table/row/corpus, small; change: further leaves of its section `model`."""
    row, corpus = CASES[case]
    recipe = declarations.recipe(PAPER, row, corpus)
    return recipe | {"model": changed(recipe["model"], SMALL | (change or {}))}


def what_is_built(case: str) -> str:
    recipe = recipe_of(case)
    return json.dumps([recipe["model"], recipe["loss"], recipe["data"]["modalities"]])


DIFFERENT = {what_is_built(case): case for case in reversed(CASES)}  # the first case of each
EVERY = pytest.mark.parametrize("case", list(DIFFERENT.values())[::-1])


def network(recipe: dict[str, dict], *, sentiment: bool = False) -> nn.Module:
    names = [LETTERS[letter] for letter in recipe["data"]["modalities"]]
    given = {"dims": {m: DIMS[m] for m in names}, "steps": {m: STEPS[m] for m in names}}
    return network_of(recipe["model"], **given, classes=3, sentiment=sentiment)


def loss_of(recipe: dict[str, dict], *, sentiment: bool = False) -> nn.Module:
    torch.manual_seed(0)
    given = {"class_counts": torch.ones(3), "dim": recipe["model"].get("dim"), "sentiment": sentiment}
    return registry.build("loss", recipe["loss"], **given).double()


def utterances(*, dims=None, seed: int = 0) -> dict[str, Tensor]:
    """A padded batch of five in float64; the second dimension of a modality is its longest member's."""
    draw, batch = torch.Generator().manual_seed(seed), {}
    for name, lengths in LENGTHS.items():
        mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
        values = torch.randn(*mask.shape, (dims or DIMS)[name], generator=draw).double()
        batch |= {name: values * mask.unsqueeze(-1), f"{name}_mask": mask}
    return batch | {"label": torch.tensor([0, 1, 2, 1, 0]), "score": torch.linspace(-3, 3, 5).double()}


def base(corpus: str = "iemocap4", change: dict | None = None) -> dict[str, dict]:
    return recipe_of(f"readings/default/{corpus}", change)


def base_network(change: dict | None = None) -> nn.Module:
    return network(base(change=change))


# --- every row and reading -----------------------------------------------------------------------------------------


@EVERY
def test_every_parameter_of_a_declared_row_receives_gradient(case):
    recipe, sentiment = recipe_of(case), case.endswith("mosi")
    model, loss, batch = network(recipe, sentiment=sentiment), loss_of(recipe, sentiment=sentiment), utterances()
    assert model(batch)["logits"].shape == (5, 1 if sentiment else 3)
    loss(model(batch), batch)["loss"].backward()
    parameters = [*model.named_parameters(), *loss.named_parameters()]
    many = recipe["model"]["sab"]["tokens"] == "length"  # self-attention among tokens fades: see test_attsf_blocks.py
    learning = [(n, p) for n, p in parameters if not (many and re.match(r"sab.*encode\.attend\.(query|key)", n))]
    missing = [name for name, p in learning if p.grad is None or not p.grad.abs().sum() > 1e-12]
    assert not missing and all(p.grad.isfinite().all() for _, p in parameters)


@EVERY
def test_a_result_does_not_depend_on_batch_mates(case):
    recipe, sentiment = recipe_of(case), case.endswith("mosi")
    model, batch = network(recipe, sentiment=sentiment), utterances()
    together = model(batch)
    for index in (1, 4):  # the shortest text, the shortest audio
        for key, value in model(alone(batch, index)).items():
            torch.testing.assert_close(together[key][index : index + 1], value, **EXACT)


def test_noise_on_padding_is_invisible_to_sequences_of_vectors():
    batch = utterances()
    noisy = {m: torch.where(batch[f"{m}_mask"].unsqueeze(-1), batch[m], torch.randn_like(batch[m])) for m in LENGTHS}
    for to_length in ("conv", "interpolate", "lstm"):
        leaves = {"encoder.to_length.name": to_length, "encoder.to_length.kernel": 3}
        model = base_network({"encoder.audio.name": "vectors"} | leaves)
        torch.testing.assert_close(model(batch)["logits"], model(batch | noisy)["logits"], **EXACT)


@pytest.mark.parametrize(
    "change",
    [{"cmb.key": "own"}, {"cmb.kv": "coupled"}, {"sab.query": "sum"}, {"sab.query": "nested_residual"},
     {"fusion.name": "l2"}, {"encoder.position": "sinusoid"}, {"sab.classify": False},
     {"transformer.activation": "relu"}],
    ids=lambda change: "=".join(map(str, *change.items())),
)  # fmt: skip
def test_a_reading_changes_the_result(change):
    default, other = base_network(), base_network(change)
    weights, shapes = default.state_dict(), {k: v.shape for k, v in other.state_dict().items()}
    other.load_state_dict(
        {k: weights[k] if shapes[k] == weights[k].shape else v for k, v in other.state_dict().items()}
    )
    assert not torch.allclose(default(utterances())["logits"], other(utterances())["logits"], rtol=0.0, atol=1e-5)


def test_heads_are_a_reading_too():
    leaves = ("cmb.cross_heads", "sab.cross_heads", "transformer.heads")
    one, four = (base_network(dict.fromkeys(leaves, heads)) for heads in (1, 4))
    assert isinstance(one.cmb.stacks["audio"][0].cross.output, nn.Identity)  # eq. (6) has no further map
    assert isinstance(four.cmb.stacks["audio"][0].cross.output, nn.Linear)
    assert base_network({"sab.tokens": "length"}).sab.token.shape == (5, 8)


PARTS = {"wo_audio_auxiliary": "avam.encode.audio", "wo_visual_auxiliary": "avam.encode.visual", "wo_sab": "sab"}


@pytest.mark.parametrize("row", PARTS)
def test_a_part_that_a_row_removes_matters_and_is_gone_there(row):
    full, batch = base_network(), utterances()
    before = full(batch)["logits"]
    with torch.no_grad():
        for parameter in full.get_submodule(PARTS[row]).parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    assert (full(batch)["logits"] - before).abs().max() > 1e-3
    ablated = network(recipe_of(f"table7/{row}/iemocap4"))
    assert not [name for name, _ in ablated.named_parameters() if name.startswith(f"{PARTS[row]}.")]
    missing = {"wo_audio_auxiliary": "logits_audio", "wo_visual_auxiliary": "logits_visual", "wo_sab": "token"}[row]
    assert missing in full(batch) and missing not in ablated(batch)


def test_without_its_weight_the_similarity_loss_is_gone():
    recipe, batch = base(), utterances()
    outputs = network(recipe)(batch)
    full, without = (
        loss_of(recipe_of(f"table7/{row}/iemocap4"))(outputs, batch) for row in ("attsf_net", "wo_similarity_loss")
    )
    assert full.keys() - without.keys() == {"similarity"} and full["similarity"] > 0
    torch.testing.assert_close(full["loss"] - without["loss"], 0.3 * full["similarity"], **EXACT)


@pytest.mark.parametrize("row", ["cmb_replaced", "avam_replaced", "lstm_replaced"])
def test_a_row_of_table_8_puts_another_part_in_place(row):
    model = network(recipe_of(f"table8/{row}/ravdess"))
    replacements = {"cmb": SimilarityEnhancement, "avam": TemporalPooling, "lstm": nn.Linear}
    temporal = model.encoder.embed["audio"].to_length.over_time
    parts = {"cmb": type(model.cmb), "avam": type(model.avam), "lstm": type(temporal)}
    assert [f"{name}_replaced" for name in parts if parts[name] == replacements[name]] == [row]


SUBSETS = ["T", "A", "V", "TA", "TV", "AV", "TAV"]


@pytest.mark.parametrize("unimodal", ["self", "auxiliary"])
@pytest.mark.parametrize("modalities", SUBSETS)
def test_any_modalities_train(modalities, unimodal):
    recipe = base(change={"cmb.unimodal": unimodal})
    recipe["data"]["modalities"] = modalities
    model, loss, batch = network(recipe), loss_of(recipe), utterances()
    out = model(batch)
    main = set(modalities) - {"T"} if unimodal == "self" or {"A", "V"} <= set(modalities) else set()
    assert {name for name in out if name.startswith("main_")} == {f"main_{LETTERS[k]}" for k in main}
    streams = len(modalities) + bool(main)  # one per modality, and the token
    assert out["embedding"].shape == (5, 8 * streams)
    loss(out, batch)["loss"].backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 1e-12]


def test_one_modality_attends_to_itself():
    recipe = base()
    recipe["data"]["modalities"] = "A"
    model, batch = network(recipe), utterances()
    x = model.encoder.embed["audio"](batch["audio"], batch["audio_mask"])
    layer = model.cmb.stacks["audio"]
    torch.testing.assert_close(model(batch)["main_audio"], layer[1](layer[0](x, x), x).mean(1), **EXACT)


# --- Table V -------------------------------------------------------------------------------------------------------


def test_masks_differ_at_test_time_only():
    rows = {"net": "table3/attsf_net", "l2": "table3/attsf_l2", "gat": "table3/attsf_gat", "alone": "table6/audio"}
    for row in PAPER.table("table5").row:
        network, modality, percent = row.id.split("_")
        table, clean = rows[network].split("/")
        full = declarations.recipe(PAPER, PAPER.table(table).find(clean), "ravdess")
        masked = declarations.recipe(PAPER, row, "ravdess")
        assert {s: masked[s] for s in masked if s != "protocol"} == {s: full[s] for s in full if s != "protocol"}
        different = {k: v for k, v in masked["protocol"].items() if v != full["protocol"][k]}
        assert different == {"mask_modality": modality, "mask_percent": int(percent)}
    assert len(PAPER.table("table5").row) == 54 + 9


def test_table_5_trains_nothing_of_its_own(data_folder):
    twins.ensure("twin", PAPER.corpora)
    ids = {
        t: {r.id for row, _, r in study.runs_of(PAPER, t) if row.base is None} for t in ("table3", "table5", "table6")
    }
    assert ids["table5"] <= ids["table3"] | ids["table6"] and len(ids["table5"]) == 20  # four networks, five folds


def test_a_network_on_face_frames_learns_down_to_the_pixels():
    recipe = base(change={"encoder.visual.name": "efficientface"})
    model = network_of(
        recipe["model"], dims={"audio": 5, "visual": 3072}, steps={"audio": 16, "visual": 6}, classes=3
    ).train()
    batch = utterances(dims=DIMS | {"visual": 3072})
    batch["visual"] = batch["visual"].abs() / 5
    loss_of(recipe)(model(batch), batch)["loss"].backward()
    assert model.encoder.embed["visual"].encoder.network.conv1[0].weight.grad.abs().sum() > 0
    with pytest.raises(DeclarationError, match="take substitute.face_vectors = true"):
        network_of(recipe["model"], dims={"visual": 35}, classes=3)
    with pytest.raises(DeclarationError, match="take substitute.face_vectors = false"):
        network_of(base()["model"], dims={"visual": 3072}, steps={"visual": 6}, classes=3)


# --- the loss ------------------------------------------------------------------------------------------------------


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.double)


def normals(x: Tensor, axis: int, eps: float) -> Normal:
    return Normal(x.mean(axis), (x.var(axis, unbiased=False) + eps).sqrt())


def both_ways(p, q) -> Tensor:
    return kl_divergence(p, q) + kl_divergence(q, p)


def alike(n: int) -> Tensor:
    """The shares of utterances that all have a label."""
    return torch.full((n,), 1 / n, dtype=torch.double)


@pytest.mark.parametrize("reading", SIMILARITIES)
def test_similarity_is_the_symmetric_divergence(reading):
    torch.manual_seed(0)
    p, q, eps = draw(6, 4), 2 * draw(6, 4) + 1, 1e-5
    similarity = SIMILARITIES[reading](dim=4, eps=eps)
    if reading == "batch":
        expected = both_ways(*(Independent(normals(x, 0, eps), 1) for x in (p, q))) / 4
    elif reading == "sample":
        expected = both_ways(*(normals(x, 1, eps) for x in (p, q))).mean()
    elif reading == "softmax":
        expected = both_ways(*(Categorical(logits=x) for x in (p, q))).mean()
    else:
        means = [similarity.double().moments(x).chunk(2, dim=1) for x in (p, q)]
        expected = both_ways(*(Normal(m, (v.exp() + eps).sqrt()) for m, v in means)).mean()
    torch.testing.assert_close(similarity(p, q, alike(6)), expected, **EXACT)
    torch.testing.assert_close(similarity(p, p, alike(6)), torch.zeros(()).double(), **EXACT)


def outputs(n: int = 5) -> dict[str, Tensor]:
    torch.manual_seed(0)
    logits = {name: draw(n, 3) for name in ("logits", "logits_audio", "logits_visual", "logits_text")}
    return logits | {name: draw(n, 8).requires_grad_() for name in ("main_audio", "main_visual", "token")}


def test_the_objective_is_equation_18():
    recipe, out, batch = base(), outputs(), utterances()
    recipe["loss"] |= {"lambda_a": 0.5, "lambda_v": 0.25, "lambda_t": 0.125, "lambda_sim": 0.3}
    loss = loss_of(recipe)
    entropy = {name: F.cross_entropy(out[name], batch["label"]) for name in out if name.startswith("logits")}
    similar = [loss.similarity(out["token"], out[f"main_{m}"], alike(5)) for m in ("audio", "visual")]
    total = entropy["logits"] + 0.5 * entropy["logits_audio"] + 0.25 * entropy["logits_visual"]
    total = total + 0.125 * entropy["logits_text"] + 0.3 * sum(similar) / 2
    torch.testing.assert_close(loss(out, batch)["loss"], total, **EXACT)


def test_scores_are_learned_by_l1():
    recipe, batch = base("mosi"), utterances()
    out = {"logits": draw(5, 1), "logits_audio": draw(5, 1)}
    expected = [(out[name][:, 0] - batch["score"]).abs().mean() for name in out]
    torch.testing.assert_close(
        loss_of(recipe, sentiment=True)(out, batch)["loss"], expected[0] + 0.5 * expected[1], **EXACT
    )
    with pytest.raises(ValueError, match="scores need l1"):
        loss_of(recipe)


def test_unlabelled_utterances_teach_nothing():
    recipe, out, batch = base(), outputs(), utterances()
    batch["label"][[1, 3]] = -1
    rows = batch["label"] >= 0
    labelled = loss_of(recipe)({k: v[rows] for k, v in out.items()}, {"label": batch["label"][rows]})
    torch.testing.assert_close(loss_of(recipe)(out, batch), labelled, **EXACT)


def test_one_utterance_has_no_batch_statistics():
    recipe, batch = base(), {"label": torch.tensor([1])}
    out = outputs(1)
    assert loss_of(recipe)(out, batch)["similarity"] == 0
    twice = {k: v.expand(2, -1) for k, v in out.items()}
    assert loss_of(recipe)(twice, {"label": torch.tensor([1, 1])})["loss"].isfinite()


def test_another_system_has_the_task_alone():
    recipe = declarations.recipe(PAPER, PAPER.table("table3").find("pooled_mlp"), "ravdess")
    terms = loss_of(recipe)({"logits": draw(5, 3), "embedding": draw(5, 6)}, utterances())
    assert terms.keys() == {"loss", "task"} and terms["loss"] == terms["task"]


@pytest.mark.parametrize(
    "key",
    ["encoder.audio.name", "encoder.visual.name", "encoder.to_length.temporal", "encoder.to_length.name",
     "encoder.position", "cmb.name", "cmb.key", "cmb.kv", "cmb.unimodal", "sab.name", "sab.query", "sab.tokens",
     "avam.name", "fusion.name", "fusion.gate", "transformer.activation"],
)  # fmt: skip
def test_an_unknown_option_is_refused_with_those_that_there_are(key):
    change = {key: "other thing"} | ({"fusion.name": "gate"} if key == "fusion.gate" else {})
    with pytest.raises(DeclarationError, match=rf"'other thing' is no (option of )?model\.{key}; there are: "):
        base_network(change)


@pytest.mark.parametrize("section", ["encoder", "encoder.visual", "transformer", "cmb", "sab", "avam", "fusion"])
def test_an_unknown_leaf_is_refused_with_its_section(section):
    with pytest.raises(DeclarationError, match=rf"model\.{section}.* has no colour"):
        base_network({f"{section}.colour": 1})


def test_two_trainings_are_the_same_to_the_last_bit():
    losses = []
    for _ in range(2):
        model, batch = base_network().train(), utterances()
        torch.manual_seed(7)
        loss = loss_of(base())(model(batch), batch)["loss"]
        loss.backward()
        losses.append((loss, [p.grad for p in model.parameters()]))
    assert losses[0][0].equal(losses[1][0])
    assert all(a.equal(b) for a, b in zip(losses[0][1], losses[1][1], strict=True))
