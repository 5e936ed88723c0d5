"""A process that holds the installer ready and forks a child for each order: strace sees the order and no import.

One line of JSON a request on stdin: ``{"verb", "root", "bundle", "key"}``; ``download`` takes what an errand takes.
The child says its pid, waits for a byte on
the pipe named by the order, obeys, and leaves its outcome as exit code: 0 done, 3 a named error, 9 another one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from edgekit_device import slots
from edgekit_device.contract.errors import EdgeKitError

DONE, NAMED, UNNAMED = 0, 3, 9


def obey(order: dict[str, str]) -> int:
    """Do what is asked for."""
    root = Path(order["root"])
    try:
        if order["verb"] == "download":
            from edgekit_device.ota import errand

            errand.enter_bundle(order, lambda words: None, lambda bundle, data: None)
            return DONE
        keys = [Path(order["key"])]
        if order["verb"] == "install":
            slots.install(root, Path(order["bundle"]), keys)
        else:
            slots.rollback(root)
    except EdgeKitError:
        return NAMED
    except BaseException:
        return UNNAMED
    return DONE


def main() -> None:
    """Serve orders about bundles and downloads until stdin ends."""
    # Imported at first use otherwise, in each child again; the last is what a host's name is looked up with.
    import encodings.idna

    import minisign

    from edgekit_device.ota import errand, metadata

    assert minisign
    assert errand
    assert metadata
    assert encodings.idna
    warm = os.environ.get("WARM")
    serve(obey, json.loads(warm) if warm else None)


def serve(obey: Callable[[dict[str, str]], int], warm: dict[str, str] | None) -> None:
    """Obey in a child for each line of stdin; `warm` is obeyed first and here, so that everything is imported."""
    if warm:
        obey(warm)
    for line in sys.stdin:
        order = json.loads(line)
        read_fd, write_fd = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(write_fd)
            os.read(read_fd, 1)
            os.close(read_fd)
            os._exit(obey(order))
        os.close(read_fd)
        print(pid, flush=True)
        sys.stdin.readline()
        os.write(write_fd, b"x")
        os.close(write_fd)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
