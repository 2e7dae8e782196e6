"""The drawing of a network: boxes in columns and arrows between them, as SVG that follows the colours of the page."""

from html import escape
from textwrap import wrap

from merlib.declarations.schema import Drawing

WIDTH, GAP, LINE, PADDING, BETWEEN = 128, 44, 17, 9, 18  # pixels
LETTERS = 17  # that fit into a box


def svg(drawing: Drawing, name: str) -> str:
    """The drawing as inline SVG; its text alternative names every arrow."""
    lines = {label: wrap(label, LETTERS, break_long_words=False) for column in drawing.columns for label in column}
    tall = {label: len(text) * LINE + 2 * PADDING for label, text in lines.items()}
    heights = [sum(tall[label] for label in column) + BETWEEN * (len(column) - 1) for column in drawing.columns]
    height, width = max(heights) + 4, len(heights) * (WIDTH + GAP) - GAP + 4
    places = {}
    for number, (column, of_column) in enumerate(zip(drawing.columns, heights, strict=True)):
        y = (height - of_column) / 2
        for label in column:
            places[label] = (2 + number * (WIDTH + GAP), y)
            y += tall[label] + BETWEEN
    parts = [_arrow(places[a], tall[a], places[b], tall[b]) for a, b in drawing.arrows]
    parts += [_box(*places[label], tall[label], lines[label]) for label in lines]
    alternative = f"{name} from left to right: " + "; ".join(f"{a} to {b}" for a, b in drawing.arrows)
    head = f'<svg viewBox="0 0 {width} {height:g}" role="img" aria-label="{escape(alternative)}" width="{width}">'
    tip = '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    tip += '<path d="M0 0L8 4L0 8z"/></marker>'
    return f'<div class="wide drawing" tabindex="0">{head}<defs>{tip}</defs>{"".join(parts)}</svg></div>'


def _box(x: float, y: float, height: float, lines: list[str]) -> str:
    text = "".join(
        f'<text x="{x + WIDTH / 2:g}" y="{y + PADDING + LINE * (at + 0.75):g}">{escape(line)}</text>'
        for at, line in enumerate(lines)
    )
    return f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{height:g}" rx="6"/>{text}'


def _arrow(start: tuple[float, float], tall: float, end: tuple[float, float], tall_end: float) -> str:
    """From the right side of a box to the left side of another one."""
    x1, y1, x2, y2 = start[0] + WIDTH, start[1] + tall / 2, end[0] - 1, end[1] + tall_end / 2
    middle = x1 + GAP / 2
    return f'<path class="arrow" d="M{x1:g} {y1:g}C{middle:g} {y1:g} {x2 - GAP / 2:g} {y2:g} {x2:g} {y2:g}"/>'
