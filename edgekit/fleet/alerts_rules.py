"""When a board needs somebody: limits with their defaults in sight, read from the [alerts] part of fleet.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from edgekit.errors import UsageError, near_miss

KINDS = (
    "offline", "camera", "fps_low", "hot", "rung_lost", "gaps", "outbox_overflow", "update_failed", "label_mix",
)  # fmt: skip
# Not about one board: the broker or the store that all of them hang on.
FLEET_KIND = "collector"
# Neither: signatures and certificates of the fleet that end.
EXPIRY_KIND = "expiry"


@dataclass(frozen=True)
class Rules:
    """Limits of every kind, and how long each must hold.

    Attributes:
        off: Kinds that are not watched.
        fps_share: Below this share of the bundle's own bench, or of the camera's pace where that is slower, FPS is low.
        hot_c: From here a board is hot; it stops being hot 5 degrees below.
        mix_psi: Population stability index between what a board sees and the bundle's baseline.
        mix_frames: Fewer frames than this say nothing about the mix.
        raise_s: A finding must hold so long before it is an alert, by kind.
        clear_s: It must be gone so long before the alert ends.
        settle_s: After the broker or the store came back, boards get so long to be heard again.
        digest_over: More new alerts of one kind at once are sent as one message.
    """

    off: tuple[str, ...] = ()
    fps_share: float = 0.8
    hot_c: float = 80.0
    mix_psi: float = 0.5
    mix_frames: int = 500
    raise_s: Mapping[str, float] = field(
        default_factory=lambda: {
            "offline": 60.0, "camera": 10.0, "fps_low": 60.0, "hot": 60.0, "rung_lost": 30.0, "gaps": 900.0,
            "outbox_overflow": 0.0, "update_failed": 0.0, "label_mix": 600.0, FLEET_KIND: 10.0,
        }
    )  # fmt: skip
    clear_s: float = 60.0
    settle_s: float = 120.0
    digest_over: int = 5


@dataclass(frozen=True)
class Outlets:
    """Where alerts go. Secrets are named by path or environment variable, never written here.

    Attributes:
        webhooks: URLs that get each alert as JSON; ``env:NAME`` reads the URL from the environment.
        mqtt: Whether alerts are published below ``edgekit/v1/alerts``.
        mail_to: Addresses.
        mail_from: Sender.
        smtp: ``host:port`` of the mail server; STARTTLS is used where it offers it.
        smtp_user: User name; None to send without one.
        smtp_password_file: File that holds the password.
        apprise: URLs for Apprise, if that is installed; ``env:NAME`` reads one from the environment.
        page: Where this dashboard is reached, for links in messages.
    """

    webhooks: tuple[str, ...] = ()
    mqtt: bool = True
    mail_to: tuple[str, ...] = ()
    mail_from: str = "edgekit@localhost"
    smtp: str = "localhost:25"
    smtp_user: str | None = None
    smtp_password_file: str | None = None
    apprise: tuple[str, ...] = ()
    page: str | None = None


def read_alerts(path: Path | None) -> tuple[Rules, Outlets]:
    """The [alerts] and [alerts.send] tables of a fleet.toml; defaults where they or the file are missing.

    Args:
        path: The file; None for the defaults.

    Raises:
        UsageError: Not TOML, an unknown key, or a value of another type.
    """
    if path is None or not path.exists():
        return Rules(), Outlets()
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        raise UsageError(f"{path}: not TOML ({cause}); correct that line") from cause
    table = _table(document.get("alerts", {}), f"{path}: [alerts]")
    send = _table(table.pop("send", {}), f"{path}: [alerts.send]")
    waits = _table(table.pop("raise_s", {}), f"{path}: [alerts.raise_s]")
    rules = _filled(Rules(), table, f"{path}: [alerts]")
    for name in rules.off:
        _known(name, (*KINDS, EXPIRY_KIND), f"{path}: [alerts] off")
    for name, seconds in waits.items():
        _known(name, (*KINDS, FLEET_KIND, EXPIRY_KIND), f"{path}: [alerts.raise_s]")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
            raise UsageError(f"{path}: [alerts.raise_s] {name}: must be seconds")
    rules = replace(rules, raise_s={**rules.raise_s, **{k: float(v) for k, v in waits.items()}})
    return rules, _filled(Outlets(), send, f"{path}: [alerts.send]")


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: must be a table")
    return dict(value)


def _known(name: str, known: tuple[str, ...], where: str) -> None:
    if name not in known:
        raise UsageError(f"{where}: {name!r} is not known{near_miss(name, known)}; known: {', '.join(known)}")


def _filled(defaults: Any, values: Mapping[str, Any], where: str) -> Any:
    kinds = {f.name: getattr(defaults, f.name) for f in fields(defaults) if f.name != "raise_s"}
    made: dict[str, Any] = {}
    for name, value in values.items():
        _known(name, tuple(kinds), where)
        made[name] = _typed(value, kinds[name], f"{where} {name}")
    return replace(defaults, **made)


def _typed(value: Any, default: Any, where: str) -> Any:
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise UsageError(f"{where}: must be a list of texts")
        return tuple(value)
    if isinstance(default, bool) or default is None or isinstance(default, str):
        wanted: type = bool if isinstance(default, bool) else str
        if not isinstance(value, wanted):
            raise UsageError(f"{where}: must be {'true or false' if wanted is bool else 'a text'}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise UsageError(f"{where}: must be a number of at least 0")
    return type(default)(value)
