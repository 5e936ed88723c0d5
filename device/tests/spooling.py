"""A board that spools until it is killed: python spooling.py FOLDER BOOT. Prints what is committed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from readings import reading

from edgekit_device.publish.messages import Key, Message
from edgekit_device.publish.outbox import Outbox


def main() -> None:
    """Commit small batches for ever, and now and then delete one."""
    boot = sys.argv[2]
    outbox = Outbox(Path(sys.argv[1]))
    seq = 0
    while True:
        group = [
            Message(Key(boot, n), "telemetry", reading(n, boot).to_bytes(), time.monotonic())
            for n in range(seq, seq + 7)
        ]
        ((number, _),) = outbox.write([(group, None)])
        print(seq, seq + 6, flush=True)
        seq += 7
        if number % 5 == 0:
            outbox.change([], {boot: ((0, 0),)}, [number])


if __name__ == "__main__":
    main()
