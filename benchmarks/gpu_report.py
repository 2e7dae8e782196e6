"""The report of `gpu.py`: one JSON file with every row, and one page of Markdown with what a reader looks for."""

import json
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]


def read_rows(path: Path) -> Rows:
    """The whole rows of a section; one that was cut off while it was written is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def write(report: dict[str, Any], folder: Path) -> None:
    (folder / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "gpu.md").write_text(page(report))


def page(report: dict[str, Any]) -> str:
    """The report as Markdown, a heading a section."""
    about = ", ".join(f"{name} {value}" for name, value in report["machine"].items())
    lines = ["# GPU day", "", f"Device {report['device']}, size {report['size']}; {about}.", ""]
    for name, section in report["sections"].items():
        state = f"{section['status']} in {section['seconds']} s, {len(section['rows'])} rows"
        lines += [f"## {name}", "", f"{state}{'. ' + section['error'] if section['error'] else ''}.", ""]
        lines += [*SUMMARIES.get(name, table)(section["rows"]), ""]
    return "\n".join(lines).rstrip() + "\n"


def table(rows: Rows) -> list[str]:
    """A Markdown table with a column for every key of the rows."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    if not keys:
        return []
    body = [[shown(row.get(key)) for key in keys] for row in rows]
    return [line(keys), line(["---"] * len(keys)), *map(line, body)]


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "" if value is None else str(value).replace("|", "/").replace("\n", " ")


def agreement(rows: Rows) -> list[str]:
    """How many cases agree, the largest differences, and every case that does not agree."""
    if not rows:
        return []
    disagreeing = [row for row in rows if not row["agrees"]]
    lines = [f"{len(rows) - len(disagreeing)} of {len(rows)} cases agree; {rows[0]['of']} are declared."]
    for what in ("outputs", "gradients", "losses"):
        if measured := [row for row in rows if what in row]:
            worst = max(measured, key=lambda row: row[what])
            lines.append(f"Largest difference of {what} in float64: {worst[what]:.1e} ({worst['case']}).")
    return [*lines, "", *table([{k: v for k, v in row.items() if k != "of"} for row in disagreeing])]


def waits(rows: Rows) -> list[str]:
    """The waits of each network, and the lines that cause them, most frequent first."""
    places: dict[str, float] = {}
    for row in rows:
        for place, number in row["places"].items():
            places[place] = places.get(place, 0) + number
    by_place = [{"line": p, "waits": n} for p, n in sorted(places.items(), key=lambda item: -item[1])]
    return [*table([{k: row[k] for k in ("case", "waits_per_step")} for row in rows]), "", *table(by_place)]


SUMMARIES = {"agreement": agreement, "waits": waits}
