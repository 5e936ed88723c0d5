"""The device package as a wheel, made from the one that runs here: what verified the model is what goes to the board.

`edgekit` depends on `edgekit-device` of its own version, so it is always here, as source or as installed; a wheel of
pure Python is a zip with three files of metadata. The same files give the same bytes.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

NAME = "edgekit-device"
_PACKAGE = "edgekit_device"
_DATE = (2020, 1, 1, 0, 0, 0)
_WHEEL = "Wheel-Version: 1.0\nGenerator: edgekit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True)
class DeviceWheel:
    """The wheel.

    Attributes:
        file_name: As pip wants it.
        version: Of the package.
        data: The file.
    """

    file_name: str
    version: str
    data: bytes

    @property
    def sha256(self) -> str:
        """Of the file, hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


def device_wheel() -> DeviceWheel:
    """Make the wheel."""
    import edgekit_device

    found = metadata.distribution(NAME)
    version = edgekit_device.__version__
    folder = Path(edgekit_device.__file__).parent
    files = {
        f"{_PACKAGE}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and _travels(path.relative_to(folder))
    }
    info = f"{_PACKAGE}-{version}.dist-info"
    about = found.read_text("METADATA") or f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version}\n"
    entry = found.read_text("entry_points.txt") or f"[console_scripts]\n{NAME} = {_PACKAGE}.cli:main\n"
    files |= {f"{info}/METADATA": about.encode(), f"{info}/WHEEL": _WHEEL.encode()}
    files[f"{info}/entry_points.txt"] = entry.encode()
    files[f"{info}/RECORD"] = _record(files, info)
    return DeviceWheel(f"{_PACKAGE}-{version}-py3-none-any.whl", version, _zip(files))


def _travels(path: Path) -> bool:
    return "__pycache__" not in path.parts and not any(part.startswith(".") for part in path.parts)


def _record(files: dict[str, bytes], info: str) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    for name, data in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.writerow((name, f"sha256={digest}", len(data)))
    rows.writerow((f"{info}/RECORD", "", ""))
    return text.getvalue().encode()


def _zip(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
            archive.writestr(entry, data)
    return out.getvalue()
