"""Switch a relay on GPIO 17 while the camera sees one thing.

On a Pi: pip install gpiozero lgpio, then: python relay.py tabby
Anywhere: GPIOZERO_PIN_FACTORY=mock python relay.py tabby --source sample --seconds 5
"""

import argparse
import time

from gpiozero import LED

from edgekit_device import Classifier

words = argparse.ArgumentParser()
words.add_argument("label", help="what the relay waits for")
words.add_argument("--bundle", help="a bundle file; the installed model by default")
words.add_argument("--pubkey")
words.add_argument("--source", default="auto")
words.add_argument("--seconds", type=float, default=float("inf"))
args = words.parse_args()

relay, until = LED(17), time.monotonic() + args.seconds
with Classifier(args.bundle, source=args.source, pubkey=args.pubkey) as seen:
    for result in seen:
        relay.value = result.accepted and result.label == args.label
        if result.changed:
            print(f"{result.label} {result.score:.2f}: relay {'on' if relay.value else 'off'}", flush=True)
        if time.monotonic() > until:
            break
