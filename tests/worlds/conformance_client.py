"""Our client behind the words of tuf-conformance: init, refresh, download. Run by gate A4.

It judges by the wall clock alone: the suite plays in years before this version was made, which is a board's floor.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.ota.metadata import Metadata, Now
from edgekit_device.ota.parts import Parts
from edgekit_device.ota.transport import Limits, Transport
from edgekit_device.trusted_time import Moment


def main() -> int:
    """Do one of the three.

    Returns:
        1 if it was refused.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--metadata-url")
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-dir", type=Path)
    parser.add_argument("--target-base-url", default="")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("init").add_argument("root", type=Path)
    verbs.add_parser("refresh")
    verbs.add_parser("download")
    args = parser.parse_args()
    if args.verb == "init":
        shutil.copyfile(args.root, args.metadata_dir / "root.json")
        return 0
    wall = time.time()
    transport = Transport(Limits())
    urls = (args.metadata_url.rstrip("/") + "/", args.target_base_url.rstrip("/") + "/")
    try:
        metadata = Metadata(urls, args.metadata_dir, transport, Now(Moment(wall, 0.0, right=True)), None)
        metadata.refresh()
        for name in args.target_name:
            _download(metadata, transport, name, args.target_dir)
    except EdgeKitError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


def _download(metadata: Metadata, transport: Transport, name: str, folder: Path) -> None:
    import hashlib
    from urllib.parse import quote

    wanted = metadata.find(name)
    place = folder / quote(name, "")
    if place.is_file() and hashlib.new(wanted.algorithm, place.read_bytes()).hexdigest() == wanted.digest:
        return
    parts = Parts(folder.parent / "parts")
    part = parts.fetch(wanted, transport)
    os.replace(part, place)


if __name__ == "__main__":
    sys.exit(main())
