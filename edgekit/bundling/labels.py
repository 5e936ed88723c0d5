"""Read a labels file: one plain label a line, as many as the model has classes, no two alike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import LabelCountError, LabelsError
from edgekit_device.contract.manifest import MAX_CLASSES

MAX_LABEL_CHARACTERS = 200
BACKGROUND = "background"

# What pycoral's read_label_file takes for an index in front of a label: "0 cat", "0: cat".
_INDEXED = re.compile(r"(\d+)[:\s]+(.*)", re.ASCII)


@dataclass(frozen=True)
class Labels:
    """The labels of a model.

    Attributes:
        names: One per class, in the order of the score vector.
        notes: What was changed while reading, in words; empty for a plain file.
    """

    names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """``labels.txt`` of a bundle: UTF-8, one label a line."""
        return "".join(f"{name}\n" for name in self.names).encode("utf-8")


def read_labels(path: Path, *, classes: int | None = None) -> Labels:
    """Read a labels file.

    Carriage returns, a byte order mark, blank lines at the end and indices on every line ("0 cat", "1 dog") are
    taken away. A label that occurs twice gets its class index behind it, so that every label names one class.

    Args:
        path: One label a line, UTF-8.
        classes: Length of the model's score vector; None skips that check.

    Raises:
        LabelsError: Not UTF-8, a blank or unprintable line, or a line that reads as an index here and there.
        LabelCountError: Another number of labels than classes.
    """
    name = str(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as cause:
        raise LabelsError(name, f"cannot be read ({cause.strerror})", "name the file with --labels FILE") from cause
    except UnicodeDecodeError as cause:
        raise LabelsError(
            name, f"byte {cause.start} is not UTF-8", f"convert it: iconv -f latin1 -t utf-8 {name}"
        ) from cause
    lines = [line.removesuffix("\r").strip(" ") for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return check_labels(lines, path=name, classes=classes)


def check_labels(lines: Sequence[str], *, path: str = "labels", classes: int | None = None) -> Labels:
    """Make labels of lines; see `read_labels`.

    Raises:
        LabelsError: A line cannot be a label.
        LabelCountError: Another number of labels than classes.
    """
    names, notes = list(lines), []
    stripped = _without_indices(names)
    if stripped is not None:
        names = stripped
        notes.append("indices in front of the labels were taken away")
    for number, label in enumerate(names, start=1):
        _check_line(path, number, label)
    repeated = {label: count for label, count in Counter(names).items() if count > 1}
    if repeated:
        names = _told_apart(path, names, set(repeated))
        first = ", ".join(list(repeated)[:3])
        notes.append(f"{len(repeated)} labels occur more than once and got their class index ({first})")
    if classes is not None and len(names) != classes:
        raise LabelCountError(path, len(names), classes, _count_remedy(names, classes))
    if not 1 <= len(names) <= MAX_CLASSES:
        raise LabelsError(path, f"holds {len(names)} labels", f"give 1 to {MAX_CLASSES}")
    return Labels(tuple(names), tuple(notes))


def _without_indices(lines: Sequence[str]) -> list[str] | None:
    """The labels behind "0 cat", "1 dog", ...; None unless every line carries its own index."""
    matches = [_INDEXED.fullmatch(line) for line in lines]
    found = [match for match in matches if match]
    if not lines or len(found) != len(lines) or any(int(match[1]) != at for at, match in enumerate(found)):
        return None
    return [match[2].strip() for match in found]


def _check_line(path: str, number: int, label: str) -> None:
    if not label:
        raise LabelsError(path, f"line {number} is blank", "every class needs a label")
    if not label.isprintable():
        raise LabelsError(path, f"line {number} holds an unprintable character or a tab", "use plain text labels")
    if len(label) > MAX_LABEL_CHARACTERS:
        raise LabelsError(path, f"line {number} is longer than {MAX_LABEL_CHARACTERS} characters", "shorten it")
    if match := _INDEXED.fullmatch(label):
        raise LabelsError(
            path,
            f"line {number} reads '{label}', which other tools take for class {int(match[1])} '{match[2]}'",
            f"write '{match[1]}-{match[2]}', or put every line's own index in front, from 0 on",
        )


def _told_apart(path: str, names: Sequence[str], repeated: set[str]) -> list[str]:
    apart = [f"{label}#{index}" if label in repeated else label for index, label in enumerate(names)]
    if len(set(apart)) != len(apart) or max(map(len, apart)) > MAX_LABEL_CHARACTERS:
        raise LabelsError(path, "labels occur more than once", "give every class a label of its own")
    return apart


def _count_remedy(names: Sequence[str], classes: int) -> str:
    if len(names) == classes - 1:
        return (
            f"such models often have a class 0 called '{BACKGROUND}' (1001 instead of 1000): if this one has, put "
            f"'{BACKGROUND}' before the first line"
        )
    if len(names) == classes + 1 and names[0].lower() == BACKGROUND:
        return f"the model has no '{BACKGROUND}' class: remove the first line"
    return "name the labels that the model was trained with: --labels FILE"
