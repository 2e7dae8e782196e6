"""Official releases on disk: which one a folder holds, what of it is missing, and how to import it.

Nothing is read but names, and the small files that name others; a release that is complete here may still hold files
that cannot be decoded, which the pipeline reports.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from merlib.corpora import cmu, iemocap, meld, ravdess

SHOWN = 5  # missing files that are named


@dataclass(frozen=True)
class Layout:
    """A release in a folder: `counts` of what is there, and the files that are not, relative to the folder.

    error: why that could not be said.
    """

    kind: str
    folder: Path
    counts: dict[str, int]
    missing: tuple[str, ...]
    error: str = ""

    def about(self) -> dict:
        """As plain data."""
        missing = {"missing": len(self.missing), "first_missing": list(self.missing[:SHOWN])}
        command = f"merlib data import {self.kind} {self.folder} real"
        found = {"kind": self.kind, "folder": str(self.folder), "counts": self.counts, **missing, "import": command}
        return found | ({"error": self.error} if self.error else {})


def as_text(about: dict) -> str:
    """What `Layout.about` says, for people."""
    if "error" in about:
        return f"{about['folder']} looks like {about['kind']}, but cannot be used: {about['error']}"
    there = ", ".join(f"{n} {what}" for what, n in about["counts"].items())
    first = ", ".join(about["first_missing"]) + (", ..." if about["missing"] > SHOWN else "")
    lacks = f"{about['missing']} files are missing: {first}" if about["missing"] else "complete"
    return f"{about['folder']} is {about['kind']}: {there}; {lacks}\n    {about['import']}"


def survey(base: Path, *, depth: int = 3) -> list[Layout]:
    """The official releases in `base` and in the folders below it, `depth` deep."""
    base = Path(base)
    if not base.is_dir():
        return []
    found = [_looked(kind, base) for kind in LOOKS]
    if any(found):
        return [layout for layout in found if layout]
    below = sorted(f for f in base.iterdir() if f.is_dir() and f.name[0] != ".") if depth else []
    return [layout for folder in below for layout in survey(folder, depth=depth - 1)]


def _looked(kind: str, folder: Path) -> Layout | None:
    """What LOOKS says of a folder; one broken file must not hide the releases beside it."""
    try:
        return LOOKS[kind](folder)
    except (OSError, ValueError, KeyError) as error:  # CorpusError and pandas' errors are ValueErrors
        return Layout(kind, folder, {}, (), error=str(error))


def _layout(kind: str, folder: Path, groups: dict[str, list[str]]) -> Layout:
    counts, missing = {}, []
    for what, files in groups.items():
        lacks = [file for file in files if not (folder / file).exists()]
        counts[what] = len(files) - len(lacks)
        missing += lacks
    return Layout(kind, folder, counts, tuple(missing))


def _iemocap(folder: Path) -> Layout | None:
    """The dialogues are those that any of the folders names; the utterances, those of the evaluations."""
    sessions = [folder / f"Session{i}" for i in range(1, 6)]
    if not any((s / "dialog").is_dir() for s in sessions):
        return None
    parts = {"evaluations": "EmoEvaluation/{}.txt", "transcripts": "transcriptions/{}.txt", "films": "avi/DivX/{}.avi"}
    groups = {"sessions": [s.name for s in sessions]} | {what: [] for what in (*parts, "sentences")}
    for session in (s for s in sessions if s.is_dir()):
        here = f"{session.name}/dialog"
        named = {f.stem for p in parts.values() for f in folder.glob(f"{here}/{p.format('Ses0*')}")}
        for what, pattern in parts.items():
            groups[what] += [f"{here}/{pattern.format(name)}" for name in sorted(named)]
        for name in sorted(named):
            script = folder / here / f"EmoEvaluation/{name}.txt"
            rated = iemocap.RATED.finditer(script.read_text(encoding="latin-1")) if script.exists() else ()
            groups["sentences"] += [f"{session.name}/sentences/wav/{name}/{m['utterance']}.wav" for m in rated]
    return _layout("iemocap", folder, groups)


def _ravdess(folder: Path) -> Layout | None:
    if not any(folder.glob("Actor_[0-2][0-9]")):
        return None
    clips = list(ravdess.clips())
    sounds = [f"{c}.flac" if (folder / f"{c}.flac").exists() else f"{c}.wav" for c in clips]
    films = [f"{c.replace('/03-', '/01-')}.mp4" for c in clips]
    groups = {"sound files": sounds}
    if any((folder / film).exists() for film in films):  # the films are a release of their own
        groups["films"] = films
    return _layout("ravdess", folder, groups)


def _meld(folder: Path) -> Layout | None:
    tables = [f"{part}_sent_emo.csv" for part in meld.FILES]
    if not any((folder / table).exists() for table in tables):
        return None
    groups = {"tables": tables}
    there = [part for part in meld.FILES if (folder / f"{part}_sent_emo.csv").exists()]
    films = [film for part in there for film in meld.films(folder, part)]
    if any((folder / film).exists() for film in films):
        groups["films"] = films
    return _layout("meld", folder, groups)


def _cmu(kind: str, folder: Path) -> Layout | None:
    release = cmu.RELEASES[kind]
    if not (folder / release.labels).exists() and not cmu.transcripts(folder, release):
        return None
    return _layout(kind, folder, {"label files": [release.labels]} | cmu.expected(folder, kind))


LOOKS: dict[str, Callable[[Path], Layout | None]] = {
    "iemocap": _iemocap,
    "ravdess": _ravdess,
    "meld": _meld,
    "mosi": lambda folder: _cmu("mosi", folder),
    "mosei": lambda folder: _cmu("mosei", folder),
}
