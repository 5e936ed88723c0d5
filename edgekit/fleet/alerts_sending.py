"""Where alerts go: webhook, e-mail, Apprise, MQTT. A way out that fails is tried again and said on the alerts page."""

from __future__ import annotations

import json
import os
import smtplib
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgekit.errors import MissingPackageError, UsageError
from edgekit.fleet.alerts_rules import Outlets
from edgekit.fleet.alerts_state import FLEET, Message

_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Way:
    """One way out.

    Attributes:
        name: For the alerts page; holds no secret.
        send: Raises on failure.
    """

    name: str
    send: Callable[[Message], None]


def ways(outlets: Outlets, publish: Callable[[str, bytes], None] | None = None) -> list[Way]:
    """Every way out that is configured.

    Args:
        outlets: The [alerts.send] part of fleet.toml.
        publish: Publishes (topic suffix, payload) on the fleet's broker; None without one.

    Raises:
        UsageError: A URL is none, or an environment variable is not set.
        MissingPackageError: Apprise is asked for and not installed.
    """
    made = [_webhook(number, _secret(url), outlets) for number, url in enumerate(outlets.webhooks, 1)]
    if outlets.mail_to:
        made.append(Way(f"mail to {len(outlets.mail_to)}", lambda message: _mail(outlets, message)))
    if outlets.apprise:
        made.append(_apprise([_secret(url) for url in outlets.apprise]))
    if outlets.mqtt and publish is not None:
        made.append(Way("MQTT", lambda message: _mqtt(publish, message)))
    return made


def document(message: Message, page: str | None) -> dict[str, Any]:
    """An alert as JSON, for webhooks and MQTT."""
    return {
        "schema": 1,
        "state": "began" if message.began else "over",
        "kind": message.kind,
        "title": message.title,
        "page": page,
        "alerts": [
            {
                "site": None if alert.key.board == FLEET else alert.key.board.site,
                "device": None if alert.key.board == FLEET else alert.key.board.device,
                "severity": alert.severity,
                "text": alert.text,
                "since_ms": alert.since_ms,
            }
            for alert in message.alerts[:1000]
        ],
    }


def _secret(text: str) -> str:
    if not text.startswith("env:"):
        return text
    value = os.environ.get(text[4:])
    if not value:
        raise UsageError(f"[alerts.send] names {text}, which is not set; export it before edgekit fleet up")
    return value


def _webhook(number: int, url: str, outlets: Outlets) -> Way:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"[alerts.send] webhook {number} is not an http:// or https:// URL")

    def send(message: Message) -> None:
        body = json.dumps(document(message, outlets.page)).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")  # noqa: S310
        with _opener.open(request, timeout=_TIMEOUT_S) as answer:
            answer.read(1024)

    # A webhook's path is often its secret.
    return Way(f"webhook {parts.hostname}", send)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A webhook that answers with another address is not followed: it was not the operator who named that one."""

    def redirect_request(self, *arguments: Any, **more: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


def _mail(outlets: Outlets, message: Message) -> None:
    mail = EmailMessage()
    # Header injection: a board's text may hold line breaks, which EmailMessage refuses.
    mail["Subject"] = " ".join(f"EdgeKit: {message.title}".split())[:200]
    mail["From"], mail["To"] = outlets.mail_from, ", ".join(outlets.mail_to)
    mail.set_content(f"{message.title}\n\n{message.body}\n\n{outlets.page or ''}\n")
    host, _, port = outlets.smtp.partition(":")
    with smtplib.SMTP(host, int(port or 25), timeout=_TIMEOUT_S) as server:
        server.ehlo()
        if server.has_extn("starttls"):
            server.starttls()
        if outlets.smtp_user and outlets.smtp_password_file:
            server.login(outlets.smtp_user, Path(outlets.smtp_password_file).read_text("utf-8").strip())
        server.send_message(mail)


def _apprise(urls: Sequence[str]) -> Way:
    try:
        import apprise
    except ImportError as cause:
        raise MissingPackageError("apprise", "[alerts.send] apprise", "pip install apprise") from cause
    speaker = apprise.Apprise()
    for url in urls:
        if not speaker.add(url):
            raise UsageError("[alerts.send] apprise does not know one of the URLs; see its list of services")

    def send(message: Message) -> None:
        if not speaker.notify(title=message.title, body=message.body):
            raise OSError("Apprise could not send it")

    return Way("Apprise", send)


def _mqtt(publish: Callable[[str, bytes], None], message: Message) -> None:
    publish(message.kind, json.dumps(document(message, None)).encode())
