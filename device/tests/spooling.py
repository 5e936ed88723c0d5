"""A board that spools until it is killed: python spooling.py FOLDER BOOT [BATCHES]. Prints what is committed."""

from __future__ import annotations

import itertools
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
    seq, most = 0, int(sys.argv[3]) if len(sys.argv) > 3 else None
    gone: list[tuple[int, int]] = []
    for made in itertools.count():
        if made == most:
            break
        group = [
            Message(Key(boot, n), "telemetry", reading(n, boot).to_bytes(), time.monotonic())
            for n in range(seq, seq + 7)
        ]
        ((number, _),) = outbox.write([(group, None)])
        print(seq, seq + 6, flush=True)
        seq += 7
        if number % 5 == 0:
            if most is None:
                outbox.change([], {boot: ((0, 0),)}, [number])
            else:
                # An older batch goes, and what it held is noted in the same transaction.
                gone.append((seq - 28, seq - 22))
                outbox.change([number - 3], {boot: tuple(gone)}, [number])


if __name__ == "__main__":
    main()
