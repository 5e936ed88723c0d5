"""D3: archives built to do harm, behind a valid signature: nothing is written, every refusal has a name."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit_device import slots
from edgekit_device.contract.errors import EdgeKitError
from tests.worlds.archives import attacks, everything_below, honest
from tests.worlds.bundles import Signer

_LIMIT_S = 1.0
# What the first install on a board makes before it looks at the bundle.
_OWN = {"opt", "opt/edgekit", "opt/edgekit/releases", "opt/edgekit/.lock"}


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Try to install every archive of the table."""
    rows, outside = [], set(Path("/tmp").iterdir())
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        signer = Signer.make(place / "keys")
        table = attacks()
        control = _attempt(place / "control", signer, honest())
        for number, (what, data) in enumerate(table.items()):
            rows.append({"attack": what, **_attempt(place / str(number), signer, data)})
    appeared = {str(p) for p in set(Path("/tmp").iterdir()) - outside if "evil" in p.name}
    bad = [row for row in rows if row["problem"]] + ([{"attack": "the control"}] if control["outcome"] else [])
    slowest = max(row["s"] for row in rows)
    lines = ["| attack | refused as | words |", "|---|---|---|"]
    lines += [f"| {r['attack']} | {r['problem'] or r['outcome']} | {_cell(r['words'])} |" for r in rows]
    return {
        "gate": "D3",
        "passed": not bad and not appeared and len(rows) >= 50,
        "figure": (
            f"{len(rows) - len(bad)} of {len(rows)} archives refused by name, 0 bytes written by any; slowest "
            f"{slowest * 1000:.0f} ms; the same builder without a lie was installed; peak memory of the process "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB"
        ),
        "detail": "\n".join(lines),
    }


def _attempt(folder: Path, signer: Signer, data: bytes) -> dict[str, Any]:
    """One archive on a board of its own."""
    board, inbox = folder / "board", folder / "inbox"
    board.mkdir(parents=True)
    inbox.mkdir()
    path = inbox / "evil-1.0.0.edgekit"
    path.write_bytes(data)
    signer.sign(path)
    before, began = everything_below(inbox), time.monotonic()
    row: dict[str, Any] = {"outcome": None, "words": "", "problem": ""}
    try:
        slots.install(board / "opt" / "edgekit", path, [signer.public])
        row["problem"] = "installed"
    except EdgeKitError as error:
        row["outcome"], row["words"] = type(error).__name__, str(error).replace(str(path), path.name)
    except Exception as error:
        row["problem"] = f"unnamed: {type(error).__name__}"
    row["s"] = time.monotonic() - began
    found = everything_below(folder)
    inside = {name.removeprefix("board/") for name in found if name.startswith("board/")}
    if row["outcome"] and (inside - _OWN or any(found[f"board/{name}"] for name in inside)):
        row["problem"] = f"left {sorted(inside - _OWN)[:3]}"
    if set(found) != {"board", "inbox", *(f"board/{n}" for n in inside), *(f"inbox/{n}" for n in before)}:
        row["problem"] = "wrote outside"
    if row["s"] > _LIMIT_S:
        row["problem"] = f"took {row['s']:.1f} s"
    return row


def _cell(words: str) -> str:
    shown = words.partition("; rebuild")[0].encode("ascii", "backslashreplace").decode()
    return "".join(c if c.isprintable() else "?" for c in shown).replace("|", "\\|")[:110]
