"""What a board is told: flag, then environment, then device.toml, then the default.

`edgekit flash` writes device.toml; secrets are never in it.
"""

from __future__ import annotations

import difflib
import json
import math
import socket
import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints
from urllib.parse import urlsplit

from edgekit_device.contract.errors import SettingsError, UsageError
from edgekit_device.contract.ids import check_id, suggest_id
from edgekit_device.publish.broker_url import parse_broker_url

DEVICE_TOML = Path("/etc/edgekit/device.toml")
PREFIX = "EDGEKIT_"
_MAX_TOML_BYTES = 1 << 20


def _host_id() -> str:
    return suggest_id(socket.gethostname())


@dataclass(frozen=True)
class DeviceSettings:
    """One board's settings, with their defaults in sight.

    Attributes:
        site: Where the board belongs; an id.
        id: The board's own name within its site; the host name by default.
        broker: ``mqtt://host:port`` or ``mqtts://``; none means that nothing is published.
        interval_s: Seconds between Readings.
        source: Where frames come from.
        delegate: ``auto`` serves the fastest rung that reproduces the golden vectors.
        threads: Threads of the interpreter; none lets the board choose.
        mode: ``throughput`` or ``latency``.
        preview: ``HOST:PORT`` of the preview page; none means no page.
        pictures: Whether operators of the fleet may ask this board for a picture; nothing sent by the host sets it.
        updates: ``https://HOST:PORT/updates/`` of the fleet's repository; none means no updates over the air.
    """

    site: str = "home"
    id: str = field(default_factory=_host_id)
    broker: str | None = None
    interval_s: float = 30.0
    source: str = "auto"
    delegate: str = "auto"
    threads: int | None = None
    mode: str = "throughput"
    preview: str | None = None
    updates: str | None = None
    pictures: bool = False


_HINTS = get_type_hints(DeviceSettings)
KEYS = tuple(_HINTS)
_CHOICES = {"delegate": ("auto", "edgetpu", "xnnpack", "builtin"), "mode": ("throughput", "latency")}
_RANGES = {"interval_s": (0.05, 86_400.0), "threads": (1, 64)}
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def load_settings(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> DeviceSettings:
    """Put the four layers together.

    Args:
        path: device.toml; None, or a file that is not there, counts as empty.
        environ: Environment; the key ``interval_s`` is read from ``EDGEKIT_INTERVAL_S``, an empty value is none.
        flags: What the command line says; None counts as not said.

    Raises:
        SettingsError: An unknown key, or a value of the wrong type or out of range; names where it stood.
    """
    values: dict[str, Any] = read_device_toml(path) if path is not None and path.exists() else {}
    for key in KEYS:
        text = (environ or {}).get(PREFIX + key.upper(), "")
        if text:
            values[key] = _from_text(PREFIX + key.upper(), key, text)
    for key, value in (flags or {}).items():
        if value is not None:
            values[key] = check_setting("command line", key, value)
    return DeviceSettings(**values)


def read_device_toml(path: Path) -> dict[str, Any]:
    """The settings that a device.toml states, each checked.

    Raises:
        SettingsError: Not readable, not TOML, an unknown key or a wrong value.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_TOML_BYTES).decode("utf-8")
        found = tomllib.loads(text)
    except OSError as cause:
        raise SettingsError(str(path), f"cannot be read ({cause.strerror})") from cause
    except (ValueError, RecursionError) as cause:
        raise SettingsError(str(path), f"is not TOML ({cause}); mend it, or remove it and flash again") from cause
    return {key: check_setting(str(path), key, value) for key, value in found.items()}


def device_toml(values: Mapping[str, object]) -> str:
    """Write settings as TOML, in the order of `DeviceSettings`; None is left out.

    Raises:
        SettingsError: An unknown key or a wrong value.
    """
    checked = {key: check_setting("device.toml", key, value) for key, value in values.items() if value is not None}
    lines = [f"{key} = {_toml(checked[key])}\n" for key in KEYS if key in checked]
    return "# Written by edgekit flash. Unknown keys are errors; secrets do not belong here.\n" + "".join(lines)


def check_setting(where: str, key: str, value: object) -> Any:
    """Return a value as its setting's type.

    Args:
        where: File, variable or flag, for the message.
        key: A field of `DeviceSettings`.
        value: As it was found.

    Raises:
        SettingsError: No such setting, the wrong type, or out of range.
    """
    if key not in _HINTS:
        raise SettingsError(where, f"unknown setting '{key[:60]}'{_near(key)} (known: {', '.join(KEYS)})")
    kind = _kind(key)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 1 << 60 else math.inf
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        raise SettingsError(where, f"'{key}' must be {_WORDS[kind]}, found {type(value).__name__}")
    if key in _RANGES and isinstance(value, int | float):
        low, high = _RANGES[key]
        if not low <= value <= high:
            raise SettingsError(where, f"'{key}' must lie in [{low}, {high}], found {value}")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise SettingsError(where, f"'{key}' must be one of {', '.join(_CHOICES[key])}, found {value!r}")
    if isinstance(value, str):
        _check_text(where, key, value)
    return value


def _check_text(where: str, key: str, value: str) -> None:
    if not value.isprintable() or not 0 < len(value) <= 1024:
        raise SettingsError(where, f"'{key}' must be 1 to 1024 printable characters")
    try:
        if key in ("site", "id"):
            check_id(key, value)
        elif key == "broker":
            parse_broker_url(value)
        elif key == "updates":
            check_updates_url(value)
    except UsageError as cause:
        raise SettingsError(where, str(cause)) from cause


def check_updates_url(value: str) -> str:
    """Return a repository's address, ending in one slash.

    Raises:
        UsageError: It is no http or https address, or holds a password.
    """
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise UsageError(f"updates {value!r} is no address; write it like https://192.168.1.2:8080/updates/")
    return value.rstrip("/") + "/"


def _kind(key: str) -> type:
    options = get_args(_HINTS[key]) or (_HINTS[key],)
    kind: type = next(option for option in options if option is not types.NoneType)
    return kind


def _from_text(where: str, key: str, text: str) -> Any:
    kind = _kind(key)
    try:
        value = _TRUTH[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError) as cause:
        raise SettingsError(where, f"'{key}' must be {_WORDS[kind]}, found {text[:60]!r}") from cause
    return check_setting(where, key, value)


def _near(key: str) -> str:
    folded = key.lower().replace("-", "_")
    close = [name for name in KEYS if folded and name.startswith(folded)] or difflib.get_close_matches(folded, KEYS, 1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # A JSON string is a TOML basic string, but for DEL and for surrogate pairs: hence no ASCII escapes.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
