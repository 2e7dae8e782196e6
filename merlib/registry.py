"""Networks, losses and estimators by name, and how a section of a recipe becomes the keywords of a constructor.

Who offers something says so in the `__init__.py` of its package, in the tables NETWORKS, LOSSES and ESTIMATORS (name to
"module:class"). Packages are those below `merlib.papers`, `merlib.baselines`, `merlib.layers`, and what an installed
distribution names under the entry point group `merlib.papers`, so that a paper can live outside this repository.

A network is called with a batch and returns `logits` and every tensor that a loss or a figure needs. A loss is called
as `forward(outputs, target)` with what a network returned for the utterances of a step (u ...), and `target`: `label`
(u, -1 where there is none) and, on the sentiment corpora, `score` (u); it returns `loss` and its named parts.

A network class may also say: `starting_weights(section, modalities)`, leaf -> the pretrained files that it starts from
(a static method); `check_states(section, passports)`, which refuses stored arrays that its own encoder cannot read;
KEPT, that a run keeps its weights, since others read its vectors; SHOWN, names of outputs that a run keeps for figures
beside the embeddings; POOLED, that it reads one vector per utterance, the mean and standard deviation over the steps of
each modality; PRETRAINED, how the names of those parameters begin that learn at `train.text_lr_factor` of the rate; and
AT_ONCE, how many utterances of sequences pass through it at once on a CPU.
"""

import ast
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Collection, Mapping
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from merlib.errors import DeclarationError, listed, one_of

GROUP = "merlib.papers"  # of the entry points that papers outside this repository declare
KINDS = {"NETWORKS": "model", "ESTIMATORS": "model", "LOSSES": "loss"}  # table -> what a recipe calls it


@cache
def registered() -> dict[str, str]:
    """Paper id -> package, of the papers that other installed distributions register."""
    return {entry.name: entry.value for entry in entry_points(group=GROUP)}


def papers() -> dict[str, str]:
    """Paper id -> the package that holds its network, loss and extraction settings."""
    own = importlib.import_module(GROUP)
    inside = {found.name: f"{GROUP}.{found.name}" for found in pkgutil.iter_modules(own.__path__) if found.ispkg}
    return inside | registered()


def features(paper: str) -> ModuleType:
    """The module `features` of a paper's package: its extractors of arrays from recordings and transcripts.

    It has `extractors(data, weights)`, by modality, of text the options of `text.encode` (weights: names or paths
    instead of the paper's, by modality), and `offline(data)`, those that take the place of extractors whose weights
    come with no package (of text: MiniLM with the paper's options, unless it has others).
    """
    module = f"{one_of(papers(), paper, 'paper that has a package')}.features"
    if importlib.util.find_spec(module) is None:
        raise DeclarationError(f"{paper} has no module {module}: it says nothing of what it extracts from recordings")
    return importlib.import_module(module)


@cache
def _table(kind: str) -> dict[str, str]:
    """Name -> "module:attribute" of one kind, over all packages."""
    table: dict[str, str] = {}
    for package in ("merlib.layers", "merlib.baselines", *papers().values()):
        offered = getattr(importlib.import_module(package), kind, {})
        if twice := sorted(table.keys() & offered.keys()):
            raise DeclarationError(f"{package} offers {', '.join(twice)} in {kind}, which another package has: rename")
        table |= offered
    return table


def offers(kind: str) -> dict[str, str]:
    """Name -> "module:attribute" of all that a recipe's section `kind`, `model` or `loss`, may name."""
    return {name: place for table, of in KINDS.items() if of == kind for name, place in _table(table).items()}


def module_of(kind: str, name: str) -> ModuleType:
    """The module of a network or estimator (kind "model"), or of a loss ("loss")."""
    return importlib.import_module(_module_name(kind, name))


def _module_name(kind: str, name: str) -> str:
    return one_of(offers(kind), name, kind).split(":")[0]


def version(kind: str, name: str) -> int:
    """VERSION of the module of a network or loss: raised there whenever its numbers change, and part of a run's id."""
    return version_of(_module_name(kind, name))


def version_of(module: str) -> int:
    """VERSION of a module, from its source where it is not loaded: what computes takes seconds to import."""
    return sys.modules[module].VERSION if module in sys.modules else _stated_version(module)


@cache
def _stated_version(module: str) -> int:
    spec = importlib.util.find_spec(module)
    for line in ast.parse(spec.loader.get_source(module)).body:
        match line:
            case ast.Assign(targets=[ast.Name(id="VERSION")], value=ast.Constant(value=int(number))):
                return number
    raise DeclarationError(f"{spec.origin} has no line `VERSION = 1`: add one, and raise it when its numbers change")


def is_estimator(name: str) -> bool:
    """Whether the model is a scikit-learn estimator on concatenated vectors, with no epochs."""
    return name in _table("ESTIMATORS")


def is_pooled(name: str) -> bool:
    """Whether the network reads one vector per utterance, as `Utterances.pooled` makes it."""
    return getattr(constructor("model", name), "POOLED", False)


def constructor(kind: str, name: str) -> Callable:
    """The class or function behind a name of a recipe's section `model` or `loss`."""
    return getattr(module_of(kind, name), offers(kind)[name].split(":")[1])


def build(kind: str, section: Mapping[str, Any], **given: Any) -> Any:
    """What the section `model` or `loss` of a recipe describes: {"name": ..., and its constructor's keywords}.

    given: what the data settle; a constructor takes those that it names. For a network: dims (modality -> width of its
    vectors), steps (modality -> longest sequence of the corpus, in steps), classes, speakers (most parties in a
    dialogue), sentiment (whether the target is a score in [-3, 3]; then classes counts its seven integers). For a loss:
    class_counts (c, labels of the training set), dim (width of the network), sentiment. For an estimator: seed.
    """
    return bind(constructor(kind, section["name"]), section, what=kind, **given)


def part(known: Mapping[str, Callable], section: Mapping[str, Any], what: str, **given: Any) -> Any:
    """The part of a network that its section names: known[section["name"]], called with its own leaves.

    Leaves that only another of the known parts takes are left out, so that an ablation changes nothing but the name.
    """
    make = one_of(known, section["name"], f"{what}.name")
    return bind(make, section, what=what, beside=known.values(), **given)


def bind(
    make: Callable, section: Mapping[str, Any], *, what: str, beside: Collection[Callable] = (), **given: Any
) -> Any:
    """make(**section, **given), where `make` gets of `given` what it names, and of the section all but `name`.

    beside: alternatives to `make`, whose leaves may stand in the section too. Raises DeclarationError for a leaf that
    none of them takes, for one that is missing, and for a value that the constructor refuses.
    """
    title = f"{what} {section['name']}" if "name" in section else what
    leaves = {key: value for key, value in section.items() if key != "name"}
    parameters = _parameters(make)
    known = {key for each in (make, *beside) for key in _parameters(each)} - given.keys()
    if unknown := sorted(leaves.keys() - known):
        raise DeclarationError(f"{title} has no {listed(unknown)}; it has {listed(sorted(known))}")
    keywords = {key: value for key, value in leaves.items() if key in parameters}
    keywords |= {key: value for key, value in given.items() if key in parameters}
    if missing := sorted(k for k, p in parameters.items() if p.default is p.empty and k not in keywords):
        raise DeclarationError(f"{title} needs {listed(missing)} in the section {what} of its recipe")
    try:
        return make(**keywords)
    except DeclarationError:
        raise
    except ValueError as error:  # a constructor that refuses an option or a size
        raise DeclarationError(f"{title}: {error}") from error


def _parameters(make: Callable) -> dict[str, inspect.Parameter]:
    """The parameters of a callable that have a name: a module without `__init__` shows only *args and **kwargs."""
    parameters = inspect.signature(make).parameters.items()
    return {name: p for name, p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
