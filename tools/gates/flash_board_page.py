"""The section of docs/results/flash.md that the emulated board fills, and the table of its gate."""

from __future__ import annotations

import platform
from collections import Counter
from typing import Any

from tools.gates.flash_page import put_section
from tools.results import machine, versions

HEADING = "## Emulated board"
TOY, NEWER, LITE0 = "toy-1.0.0", "toy-1.1.0", "lite0-1.0.0"
FLASHES = (TOY, NEWER, LITE0)
"""What is flashed whole."""
_ABOUT = """\
Debian 12 for arm64 under qemu-user as a Cortex-A72, with its own sshd, users and network; **no Raspberry Pi was
touched, and no time is a Pi's**. Wheels of the lock without an index, and the fleet's own broker over TLS. A pull kills
every process at once; what was written and not synced stays, which a power cut may take: gate A2 tries that."""
_STEPS = {
    "asking": "asking the board, before any change",
    "send": "the bundle is sent",
    "install": "the board proves and enters it",
    "start": "the service starts",
    "restart": "the service starts",
}


def write_page(found: dict[str, Any], figure: str, wanted: int) -> str:
    """Put the section into the page. Returns the tables, for the gate."""
    tables = _tables(found)
    put_section(
        HEADING,
        [
            "    make gates ONLY=F-BOARD",
            "",
            f"Machine: {machine()};",
            f"Python {platform.python_version()}, {versions('asyncssh', 'paho-mqtt')};",
            f"at {', '.join(found['commits'])}.",
            *_ABOUT.splitlines(),
            "",
            f"{figure}.",
            *_short(found, wanted),
            "",
            *tables,
        ],
    )
    return "\n".join(tables)


def _short(found: dict[str, Any], wanted: int) -> list[str]:
    """What is missing for the gate to pass, where something is."""
    missing = [] if len(found["pulls"]) >= wanted else [f"{wanted - len(found['pulls'])} of {wanted} pulls"]
    missing += [f"a whole flash of {name}" for name in FLASHES if name not in found["flashes"]]
    missing += [] if "removed" in found else ["`--remove`"]
    return ["", f"**Not passed yet.** Missing: {', '.join(missing)}. The next run goes on there."] if missing else []


def _tables(found: dict[str, Any]) -> list[str]:
    lines = ["| flashed | s | changes | FPS from outside | rung | the board's own trial |", "|---|---|---|---|---|---|"]
    for name, row in found["flashes"].items():
        cells = f"{row['seconds']:.0f} | {row['changes']} | {row['fps']:.2f} | {row['delegate']} | {row['verdict']}"
        lines.append(f"| {name} | {cells} |")
    if "removed" in found:
        left = ", ".join(found["removed"]["left"]) or "nothing of ours"
        lines += ["", f"`--remove`, last, took {found['removed']['seconds']:.0f} s and left {left}."]
    lines += ["", "| the plug was pulled while | times | old after it | new after it |", "|---|---|---|---|"]
    times: Counter[str] = Counter()
    old: Counter[str] = Counter()
    for row in found["pulls"]:
        word = _STEPS.get(str(row["step"]).split()[0], "settings, key or membership are written")
        where = word if row["early"] else "the flash was over"
        times[where] += 1
        old[where] += row["serves"] == row["before"]
    lines += [f"| {where} | {n} | {old[where]} | {n - old[where]} |" for where, n in times.most_common()]
    ran = [row for row in found["pulls"] if "fps" in row]
    if ran:
        lines += [
            "",
            f"After {len(ran)} of the pulls the service was started by hand as a boot would start it, and said its FPS "
            f"from outside: {', '.join(format(row['fps'], '.2f') for row in ran)} (the toy; its source makes 5).",
        ]
    return lines
