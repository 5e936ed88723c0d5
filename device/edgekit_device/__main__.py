"""``python -m edgekit_device``."""

import sys

from edgekit_device.cli import main

if __name__ == "__main__":
    sys.exit(main())
