"""Gate E9, second half: whatever a host, a token or a file says is data; nothing in it is run, opened or imported.

A program of its own, so that strace can count what it executes; the interpreter's own audit tells the rest.
"""

from __future__ import annotations

import json
import random
import sys
import unicodedata  # noqa: F401 - regular expressions load it at the first odd character
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekit.trust.fleet_settings import settings_from
from edgekit_device.contract.ack import Ack
from edgekit_device.contract.desired import Desired, Watch
from edgekit_device.contract.documents import dump, load
from edgekit_device.contract.enrolment import parse_invitation
from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.identity import identity_from
from edgekit_device.settings import check_setting

HOSTILE: tuple[Any, ...] = (
    "$(touch /tmp/edgekit-pwned)", "`id`", "; reboot", "| sh", "&& curl x", "__import__('os').system('id')",
    "os:system", "../../etc/passwd", "/etc/shadow", "file:///etc/passwd", "\0", "\n[section]\n", "%s%n",
    "{0.__class__}", "'; DROP TABLE", "!!python/object/apply:os.system ['id']", "cos\nsystem\n(S'id'\ntR.",
    "ssh://-oProxyCommand=id/x", "A" * 5000, "\ud800",
    -1, 1e308, 2**70, True, None, [], {}, [[[[]]]], {"__class__": "os"}, float("1e-320"),
)  # fmt: skip
TOKEN = "https://127.0.0.1:8884/#1.home.porch.0011223344556677." + "s" * 43 + "." + "0" * 64
_FORBIDDEN = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "ctypes.dlopen",
    "socket.connect",
)


def subjects() -> dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], Any]]]:
    """A good document of each kind, and its reader."""
    identity = {
        "schema": 1, "site": "home", "device": "porch", "password": "p", "broker": "mqtts://127.0.0.1:8883",
        "enroll": "https://127.0.0.1:8884", "authority": "PEM",
    }  # fmt: skip
    wish = {
        "schema": 1, "bundle": "lite0-1.0.0", "interval_s": 2.0, "thresholds": {"threshold": 0.5},
        "region": [0, 0, 1, 1],
    }  # fmt: skip
    board = {"site": "home", "id": "porch", "broker": "mqtts://h", "interval_s": 30.0, "source": "auto", "threads": 2}
    host = {"name": "fleet", "hosts": ["127.0.0.1"], "listen": "", "port": 8883, "enroll_port": 8884}
    return {
        "identity": (identity, lambda d: identity_from(load("credentials", data(d)))),
        "desired": (wish, lambda d: Desired.from_bytes(data(d))),
        "watch": ({"schema": 1, "seconds": 60.0, "interval_s": 2.0}, lambda d: Watch.from_bytes(data(d))),
        "ack": ({"schema": 1, "stored": {"0" * 32: [[0, 5]]}}, lambda d: Ack.from_bytes(data(d))),
        "device.toml": (board, lambda d: [check_setting("fuzz", key, value) for key, value in d.items()]),
        "fleet.toml": (host, lambda d: settings_from({"hosts": ["127.0.0.1"], **d})),
    }


class NoDocument(Exception):
    """What JSON cannot say never arrives."""


def data(document: dict[str, Any]) -> bytes:
    """As it would travel."""
    try:
        return dump(document)
    except ValueError as cause:
        raise NoDocument from cause


def mutate(document: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """One to three fields changed, added or gone."""
    found = json.loads(json.dumps(document))
    for _ in range(dice.randint(1, 3)):
        key = dice.choice([*found, "plugin", "command", "__class__", "path", "import"]) if found else "x"
        kind = dice.random()
        if kind < 0.1:
            found.pop(key, None)
        elif kind < 0.2 and isinstance(found.get(key), str):
            found[key] = found[key] + str(dice.choice(HOSTILE))
        else:
            found[key] = dice.choice(HOSTILE)
    return dict(found)


def main() -> None:
    """Mutate and read so many documents."""
    count, place = int(sys.argv[1]), Path(sys.argv[2])
    dice, seen = random.Random(9), []
    kinds = subjects()
    for document, read in kinds.values():
        read(document)
    parse_invitation(TOKEN)
    watching = [True]

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if watching[0] and (event in _FORBIDDEN or (event in ("open", "import") and "edgekit" not in str(args[0]))):
            seen.append(f"{event} {str(args[0])[:80]}")

    sys.addaudithook(hook)
    refused, accepted, unnamed = 0, 0, []
    for number in range(count):
        name = dice.choice([*kinds, "token"])
        try:
            if name == "token":
                text = list(TOKEN)
                for _ in range(dice.randint(1, 4)):
                    text[dice.randrange(len(text))] = str(dice.choice(HOSTILE[:20]))
                parse_invitation("".join(text))
            else:
                document, read = kinds[name]
                read(mutate(document, dice))
            accepted += 1
        except EdgeKitError:
            refused += 1
        except NoDocument:
            continue
        except Exception as error:
            unnamed.append(f"{number} {name} {type(error).__name__}: {str(error)[:80]}")
    watching[0] = False
    result = {"count": count, "refused": refused, "accepted": accepted, "unnamed": unnamed[:20], "seen": seen[:20]}
    place.write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    main()
