"""The settings of MFCC that the papers declare; `sound.MfccSteps` computes them."""

from merlib import declarations
from merlib.declarations.schema import Row
from merlib.errors import DeclarationError
from merlib.features.sound import Mfcc


def settings(paper: str, corpus: str) -> Mfcc:
    """The settings of a paper's recipe, all readings at their default, for a corpus that the paper has."""
    declared = declarations.load(paper)
    if corpus not in declared.corpora or paper not in RECIPES:
        raise DeclarationError(
            f"no MFCC of {paper} for {corpus}; papers with MFCC: "
            f"{ {name: list(declarations.load(name).corpora) for name in RECIPES} }"
        )
    recipe = declarations.recipe(declared, Row(id="default", label="All default readings"), corpus)
    return RECIPES[paper](recipe["data"])


def _attsf_net(data: dict) -> Mfcc:
    return Mfcc(
        rate=data["audio_rate"],
        seconds=data["audio_seconds"],
        cut=data["audio_window"],
        coefficients=data["mfcc_coefficients"],
        window=data["mfcc_window"],
        window_ms=data["mfcc_window_ms"],
        shift_ms=data["mfcc_shift_ms"],
        fft=data["mfcc_fft"],
    )


def _mpaf_net(data: dict) -> Mfcc:
    rate = 1000 * data["audio_khz"]
    return Mfcc(
        rate=rate,
        seconds=data["audio_seconds"],
        cut="start",  # Sec. 3.1.2: longer signals are truncated
        coefficients=data["mfcc"],
        window="hann",  # librosa's default, as the window's length and the shift
        window_ms=1000 * data["mfcc_window"] / rate,
        shift_ms=1000 * data["mfcc_hop"] / rate,
        fft=data["mfcc_window"],
    )


RECIPES = {"attsf_net": _attsf_net, "mpaf_net": _mpaf_net}
