"""A disk that fills up and gets room again, seen by a courier: run in a mount namespace of its own.

`unshare -rm python full_disk.py MOUNTPOINT MODE` prints one line of JSON. MODE is `full`, `readonly` or `eio`:
strace answers each write to the outbox with an input/output error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from edgekit_device.contract.topics import TELEMETRY
from edgekit_device.publish import keeper
from edgekit_device.publish.courier import Courier
from edgekit_device.publish.messages import Limits

sys.path.insert(0, str(Path(__file__).parent))
from readings import BOOT, reading


def main() -> None:
    """Fail, go on, heal."""
    place, mode = Path(sys.argv[1]), sys.argv[2]
    retry_s = float(sys.argv[3]) if len(sys.argv) > 3 else 0.3
    keeper.RETRY_S = retry_s
    # A disk cannot be made read-only under an open file by hand: this one is so from the start.
    options = {"full": "size=400k", "readonly": "size=400k,ro", "eio": "size=20m"}[mode]
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    courier = Courier(BOOT, place / "state", Limits(spool_after_s=0.2, settle_s=0.0), lambda: "synced")
    courier.start()
    seq = 0

    def make(count: int) -> None:
        nonlocal seq
        for _ in range(count):
            courier.take(TELEMETRY, reading(seq).to_bytes())
            seq += 1
            time.sleep(0.002 * retry_s / 0.3)

    make(50)
    time.sleep(0.8)
    spooled = courier.counts()[1] - courier.unsent
    ballast = place / "ballast"
    if mode == "full":
        try:
            with ballast.open("wb") as file:
                while True:
                    file.write(b"x" * 4096)
                    file.flush()
        except OSError:
            pass
    broken = _broken(place / "state") if mode == "eio" else None
    broke = time.monotonic()
    words = []
    while time.monotonic() - broke < 4 * retry_s + 1:
        make(50)
        words += [notice.kind for notice in courier.notices()]
    courier.connected()
    # Live publishing goes on: a message made now is the first to leave.
    make(1)
    live = courier.next()
    subprocess.run(["mount", "-o", "remount,rw,size=20m", str(place)], check=True)
    if broken is not None:
        broken.terminate()
        broken.communicate()
    healed = time.monotonic()
    if mode == "full":
        ballast.unlink()
    courier.disconnected()
    while "outbox_restored" not in words and time.monotonic() - healed < 30:
        time.sleep(0.05)
        words += [notice.kind for notice in courier.notices()]
    healed_s = time.monotonic() - healed
    make(5)
    courier.close()
    again = Courier(BOOT[::-1], place / "state", None, lambda: "synced")
    again.start()
    time.sleep(0.5)
    held = again.counts()[1]
    again.close()
    found = {
        "made": seq,
        "spooled_before": spooled,
        "held_after": held,
        "lost": courier.counts()[2],
        "live_seq": live.key.seq if live else None,
        "live_is_newest": live is not None and live.key.seq == seq - 6,
        "events": words,
        "healed_s": round(healed_s, 2),
    }
    print(json.dumps(found))


def _broken(folder: Path) -> subprocess.Popen[str]:
    """Every write to the outbox fails until this tracer of our own process ends."""
    calls = "pwrite64,fdatasync,fsync,ftruncate"
    files = [word for name in ("outbox.db", "outbox.db-wal") for word in ("-P", str(folder / name))]
    words = ["strace", "-f", "-p", str(os.getpid()), "-e", f"trace={calls}", "-e", f"inject={calls}:error=EIO", *files]
    tracer = subprocess.Popen([*words, "-o", "/dev/null"], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    said = ""
    # With -P, strace speaks of the paths first.
    while "attached" not in said:
        said = tracer.stderr.readline()
        assert said, "strace cannot attach"
    return tracer


if __name__ == "__main__":
    main()
