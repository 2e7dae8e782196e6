"""What all figures share: colours, the canvas that names the data root, and the file of a figure."""

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from merlib import origins
from merlib.files import atomic
from merlib.places import TWINS, results_folder

# One colour per emotion in all figures; the common forms of colour blindness can tell them apart (Okabe and Ito).
COLOURS = {
    "happy": "#E69F00", "joy": "#E69F00", "excited": "#F0E442", "sad": "#0072B2", "sadness": "#0072B2",
    "neutral": "#999999", "angry": "#D55E00", "anger": "#D55E00", "frustrated": "#CC79A7", "surprise": "#56B4E9",
    "surprised": "#56B4E9", "fear": "#000000", "fearful": "#000000", "disgust": "#009E73", "calm": "#B2DF8A",
    "-3": "#2166AC", "-2": "#67A9CF", "-1": "#D1E5F0", "0": "#999999", "1": "#FDDBC7", "2": "#EF8A62", "3": "#B2182B",
}  # fmt: skip
MARKERS = "osD^vPX*<>"  # of the classes in a scatter plot: told apart in grey, too
PRINTED, OURS, PEAK, FLOOR = "#999999", "#0072B2", "#D55E00", "#F0E442"
STYLE = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 10, "axes.titlesize": 11}


def canvas(
    title: str, data: str, panels: int, *, size: tuple[float, float], sharex: bool = False, sharey: bool = False,
    features: str = "", heights: Sequence[float] = (1,),
) -> tuple[Figure, list[Axes]]:  # fmt: skip
    """A figure with a row of `panels` axes of `size` inches each, or with a note when there is nothing to show.

    features: what the numbers were measured on, for the title. heights: of several axes below one another in each
    panel, in shares of its height. The figure is closed, so that no backend shows it by itself: a notebook displays it
    as the value of its cell.
    """
    origin = "SYNTHETIC TWIN: no real data" if data in TWINS else f"data: {data}"
    origin += f" ({features})" if features else ""
    note = "" if panels else "\nnothing to show: not in this data root, or not run yet"
    width, height = size if panels else (8.0, 1.2)
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(width * max(panels, 1), height), layout="constrained")
        plt.close(figure)
        options = {"squeeze": False, "sharex": sharex, "sharey": sharey, "height_ratios": heights}
        axes = figure.subplots(len(heights), panels, **options).ravel() if panels else []
        lines = textwrap.wrap(origin, int(11 * figure.get_figwidth()))
        figure.suptitle("\n".join([title, *lines]) + note, fontsize=11)
    return figure, list(axes)


def save(figure: Figure, data: str, paper: str, name: str) -> Path:
    """Write results/<data>/figures/<paper>/<name>.png completely or not at all; equal figures give equal bytes.

    Its text `merlib` says what it was made from (`merlib.origins`).
    """
    path = results_folder(data) / "figures" / paper / f"{name}.png"
    with atomic(path) as part:
        figure.savefig(part, format="png", dpi=130, metadata={"Software": None, "merlib": json.dumps(origins.noted())})
    return path
