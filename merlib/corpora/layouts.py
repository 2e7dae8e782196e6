"""Official releases on disk: which release a folder holds, what is missing of it, and how to import it.

Only names are read, and the small files that name others; a release that is complete by its names may still have files
that cannot be decoded, which the extraction reports.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from merlib.corpora import cmu, iemocap, meld, ravdess
from merlib.corpora.reading import visible
from merlib.errors import Notice
from merlib.foreign import read_text

LISTED = 5  # missing files that are named


@dataclass(frozen=True)
class Layout:
    """A release in a folder: the files that exist, counted by kind, and the missing ones, relative to the folder."""

    kind: str
    folder: Path
    counts: dict[str, int]
    missing: tuple[str, ...]
    expected: dict[str, int] = field(default_factory=dict)  # as many of each kind as the release has
    error: str = ""  # why the release cannot be read

    def about(self) -> dict:
        """The report of the release as plain data, for JSON."""
        missing = {"missing": len(self.missing), "first_missing": list(self.missing[:LISTED])}
        command = f"merlib data import {self.kind} {self.folder} real"
        report = {"kind": self.kind, "folder": str(self.folder), "counts": self.counts}
        report |= {"expected": self.expected, **missing, "import": command}
        return report | ({"error": self.error} if self.error else {})


def as_text(about: dict) -> str:
    """The report of `Layout.about` in words."""
    if "error" in about:
        return f"{about['folder']} looks like {about['kind']}, but cannot be used: {about['error']}"
    none = {kind: f"0 of {number}" for kind, number in about["expected"].items()}
    counts = ", ".join(f"{n or none[kind]} {kind}" for kind, n in about["counts"].items())
    first = ", ".join(about["first_missing"]) + (", ..." if about["missing"] > LISTED else "")
    missing = f"{about['missing']} files are missing: {first}" if about["missing"] else "complete"
    return f"{about['folder']} is {about['kind']}: {counts}; {missing}\n    {about['import']}"


def survey(base: Path, *, depth: int = 3) -> list[Layout]:
    """The official releases in `base` and in the folders below it, `depth` deep."""
    layouts = [layout for kind in LAYOUTS if (layout := _layout_or_error(kind, base))]
    below = [folder for folder in visible(base, "*") if folder.is_dir()] if depth and not layouts else []
    return layouts + [layout for folder in below for layout in survey(folder, depth=depth - 1)]


def _layout_or_error(kind: str, folder: Path) -> Layout | None:
    """The release of this kind in a folder; a broken file must not hide the releases beside it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)  # its import tells them
            return LAYOUTS[kind](folder)
    except Exception as error:  # noqa: BLE001, a parser may raise anything on a foreign file
        return Layout(kind, folder, {}, (), error=str(error) or repr(error))


def _layout(kind: str, folder: Path, groups: dict[str, list[str]]) -> Layout:
    """The layout of a release whose files, by kind, should be `groups`."""
    missing = {name: [file for file in files if not (folder / file).exists()] for name, files in groups.items()}
    counts = {name: len(files) - len(missing[name]) for name, files in groups.items()}
    expected = {name: len(files) for name, files in groups.items()}
    return Layout(kind, folder, counts, tuple(file for files in missing.values() for file in files), expected)


def _iemocap(folder: Path) -> Layout | None:
    """The dialogues are those of which any file exists; the utterances are those of the evaluations."""
    sessions = [folder / f"Session{i}" for i in range(1, 6)]
    if not any((s / "dialog").is_dir() for s in sessions):
        return None
    parts = {"evaluations": "EmoEvaluation/{}.txt", "transcripts": "transcriptions/{}.txt", "videos": "avi/DivX/{}.avi"}
    groups = {"sessions": [s.name for s in sessions]} | {part: [] for part in (*parts, "sentences")}
    for session in (s for s in sessions if s.is_dir()):
        dialog = f"{session.name}/dialog"
        names = sorted({f.stem for p in parts.values() for f in folder.glob(f"{dialog}/{p.format('Ses0*')}")})
        for part, pattern in parts.items():
            groups[part] += [f"{dialog}/{pattern.format(name)}" for name in names]
        for name in names:
            evaluation = folder / dialog / f"EmoEvaluation/{name}.txt"
            rated = iemocap.RATED.finditer(read_text(evaluation)) if evaluation.exists() else ()
            groups["sentences"] += [f"{session.name}/sentences/wav/{name}/{m['utterance']}.wav" for m in rated]
    return _layout("iemocap", folder, groups)


def _ravdess(folder: Path) -> Layout | None:
    index = ravdess.index(folder, depth=1)
    if not index:
        return None

    def path(clip: str, suffixes: tuple[str, ...]) -> str:
        """The file of a clip; where there is none, its official name."""
        files = [f for f in index.get(Path(clip).name, ()) if f.suffix.lower() in suffixes]
        return files[0].relative_to(folder).as_posix() if files else clip + suffixes[0]

    audio = [path(clip, ravdess.AUDIO) for clip in ravdess.clips()]
    videos = [path(clip.replace("/03-", "/01-"), (".mp4",)) for clip in ravdess.clips()]
    some = any((folder / video).exists() for video in videos)  # they are a download of their own
    return _layout("ravdess", folder, {"audio files": audio} | ({"videos": videos} if some else {}))


def _meld(folder: Path) -> Layout | None:
    tables = {part: f"{part}_sent_emo.csv" for part in meld.FILES}
    parts = [part for part, table in tables.items() if (folder / table).exists()]
    videos = [video for part in parts for video in meld.videos(folder, part)]
    return _layout("meld", folder, {"tables": [*tables.values()], "videos": videos}) if parts else None


def _cmu(kind: str, folder: Path) -> Layout | None:
    release = cmu.RELEASES[kind]
    if not (folder / release.labels).exists() and not visible(folder, release.transcripts):
        return None
    return _layout(kind, folder, {"label files": [release.labels]} | cmu.expected(folder, kind))


LAYOUTS: dict[str, Callable[[Path], Layout | None]] = {
    "iemocap": _iemocap,
    "ravdess": _ravdess,
    "meld": _meld,
    "mosi": lambda folder: _cmu("mosi", folder),
    "mosei": lambda folder: _cmu("mosei", folder),
}
