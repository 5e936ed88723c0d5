"""Found a fleet in a child that ends at the n-th change of the disk, for every n; then finish it in another child.

A program of its own, because it forks: a cut is `_exit`, after which nothing is closed, flushed or cleaned up.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from edgekit.trust import authority
from edgekit.trust.fleet_folder import Fleet
from edgekit.trust.fleet_settings import FleetSettings
from edgekit.trust.founding import init

CUT = 9
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = ("os.rename", "os.mkdir", "os.chmod", "os.remove", "sqlite3.connect")


def cut(steps: int) -> None:
    """End this process at the next but `steps` change of the disk."""
    left = [steps]

    def hook(event: str, args: tuple[object, ...]) -> None:
        flags = args[2] if event == "open" else 0
        if event in _CHANGES or (isinstance(flags, int) and flags & _WRITES):
            left[0] -= 1
            if left[0] < 0:
                os._exit(CUT)

    sys.addaudithook(hook)


def whole(fleet: Fleet) -> None:
    """Every part is there and fits the others."""
    assert authority.belongs(fleet.authority.certificate, fleet.broker)
    assert fleet.authority_file.read_bytes() == fleet.authority.certificate
    assert fleet.account("administrator").password
    assert {m.account.name for m in fleet.registry.members()} >= {"administrator", "collector.local.link"}
    for role in ("root", "targets"):
        key = serialization.load_pem_private_key((fleet.folder / "updates" / f"{role}.key").read_bytes(), None)
        shown = serialization.load_pem_public_key((fleet.folder / "updates" / f"{role}.pub").read_bytes())
        assert key.public_key() == shown
    assert fleet.folder.stat().st_mode & 0o777 == 0o700


def child(work: Callable[[], None]) -> int:
    """Do it in a fork; gives the exit status."""
    number = os.fork()
    if number:
        return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Try every cut, or every n-th."""
    place, settings = Path(sys.argv[1]), FleetSettings(hosts=("127.0.0.1",))
    stride = int(sys.argv[2])
    cuts, step, unfinished = 0, 0, []
    while True:
        os.environ["EDGEKIT_CONFIG_HOME"] = str(place / str(step))

        def begin(steps: int = step) -> None:
            cut(steps)
            init(None, settings)

        def finish() -> None:
            whole(init(None, settings)[0])

        ended = child(begin)
        if child(finish) or ended not in (0, CUT):
            unfinished.append(step)
        if ended != CUT:
            break
        cuts, step = cuts + 1, step + stride
    print(json.dumps({"cuts": cuts, "unfinished": unfinished}))


if __name__ == "__main__":
    main()
