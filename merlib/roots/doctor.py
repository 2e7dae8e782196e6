"""Which data is here, what each paper lacks on each root, how to get it, under which licence (`merlib doctor`)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from merlib.corpora import layouts
from merlib.data import folders, store, table
from merlib.data.official import ACCESS
from merlib.declarations import Paper
from merlib.errors import MerlibError, shortened
from merlib.places import TWINS, data_folder
from merlib.roots import protocols


def describe(needs: Mapping[str, Mapping[str, Sequence[str]]], papers: Sequence[Paper] = ()) -> dict:
    """Which data exists, what is missing and how to get it, as plain data for `merlib doctor`.

    `needs` is {paper: {corpus: modalities}}. papers: those whose printed protocols are described (`protocols`). Of the
    features only headers are read; `dataset` checks the values.
    """
    base = data_folder()
    names = folders.roots()
    roots = {r: {f.parent.name: _about(f.parent) for f in sorted((base / r).glob("*/corpus.json"))} for r in names}
    imported = {root: held for root, held in roots.items() if root not in TWINS}  # synthetic roots make what is missing
    missing = {r: {paper: _missing(held, corpora) for paper, corpora in needs.items()} for r, held in imported.items()}
    printed = {r: {p.id: protocols.of_root(p, held) for p in papers if p.substitute} for r, held in imported.items()}
    own = [layout for layout in layouts.survey(base) if not set(layout.folder.relative_to(base).parts) & set(TWINS)]
    releases = [layout.about() for layout in own]
    about = {"data": str(base), "roots": roots, "releases": releases, "missing": missing, "protocols": printed}
    return about | {"access": ACCESS}


def _missing(held: dict, corpora: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Of each corpus that a paper needs, what a root lacks: `corpus`, or modalities."""
    lacks = {}
    for name, wanted in corpora.items():
        features = held.get(name, {}).get("features")
        present = {feature.get("modality") for feature in (features or {}).values()}
        lacks[name] = ["corpus"] * (features is None) + [m for m in wanted if m not in present]
    return {name: what for name, what in lacks.items() if what}


def _about(folder: Path) -> dict:
    """A corpus of a root: its source, counts, and passports (with the number of ids instead of them); or its error."""
    try:
        if not (folder / "corpus.json").is_file():
            raise MerlibError(f"{folder / 'corpus.json'} is no file; delete it and import the corpus again.")
        corpus = table.load(folder)
        media = folders.recordings_found(folder.parent.name, corpus)
    except Exception as error:  # noqa: BLE001, whatever is wrong with one corpus, the others are still described
        return {"error": shortened(str(error) if isinstance(error, MerlibError) else f"{folder}: {error!r}")}
    features = {}
    for file in sorted((folder / "features").glob("*.safetensors")):
        try:
            passport, size = store.read_passport(file), file.stat().st_size
        except Exception as error:  # noqa: BLE001, nor does a broken array hide another one
            is_known = isinstance(error, MerlibError)
            features[file.stem] = {"error": shortened(str(error) if is_known else f"{file}: {error!r}")}
        else:
            extra = {"ids": len(passport.ids), "bytes": size, "summary": passport.summary()}
            features[file.stem] = asdict(passport) | extra
    return {"source": corpus.source, **corpus.counts(), "recordings": media, "features": features}


def as_text(report: dict) -> str:
    """The report of `describe` for people."""
    lines = [f"data in {report['data']} (set MERLIB_DATA to change it)"]
    for root, held in report["roots"].items():
        for corpus, about in held.items():
            counts = about.get("error") or (
                f"{sum(about['utterances'].values())} utterances; {about['recordings']}; {about['source']}"
            )
            lines.append(f"  {root}/{corpus}: {counts}")
            for name, feature in about.get("features", {}).items():
                size = f", {feature['bytes'] / 2**20:.1f} MiB" if "bytes" in feature else ""
                lines.append(f"    {name}: {feature.get('error') or feature['summary']}{size}")
        for paper, corpora in report["missing"].get(root, {}).items():
            what = "; ".join(f"{corpus} lacks {', '.join(lacks)}" for corpus, lacks in corpora.items())
            lines.append(f"  {root} for {paper}: {what or 'all it needs is here'}")
            printed = report["protocols"].get(root, {}).get(paper, [])
            lines += [f"    as printed, {protocols.as_text(line)}" for line in printed]
    lines += [f"  {layouts.as_text(release)}" for release in report["releases"]]
    lines.append("how to get the corpora, and their licences:")
    access = report["access"]
    for text in dict.fromkeys(access.values()):
        lines.append(f"  {', '.join(corpus for corpus in access if access[corpus] == text)}: {text}")
    return "\n".join(lines)
