"""What the guard needs of HTTP: refusals, bodies of bounded size, and the headers on every answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, Response

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    # Not no-referrer: browsers then send "Origin: null" with our own forms.
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
MAX_BODY_BYTES = 64 << 10


def refusal(scope: Scope, code: int, text: str) -> Response:
    """An answer that lets nobody in: a page for people, JSON for programs."""
    if "text/html" in Headers(scope=scope).get("accept", ""):
        # Every word of it is ours: nothing of the request stands in a refusal.
        return HTMLResponse(_PAGE.format(code=code, text=text), code)
    return JSONResponse({"detail": text}, code)


_PAGE = (
    "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    "<title>EdgeKit: {code}</title><link rel=stylesheet href=/static/edgekit.css>"
    "<main class=lone><h1>{code}</h1><p>{text}.</p><p><a href=/>To the boards</a></p></main></html>"
)


async def whole(receive: Receive) -> bytes | None:
    """A request's body; None if it is larger than any form here. Chunked bodies declare no length."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body"):
            return bytes(body)


def again(body: bytes | None) -> Receive:
    """Hands a body that was read to whoever reads it next."""

    async def replay() -> Message:
        return {"type": "http.request", "body": body or b"", "more_body": False}

    return replay


def with_headers(send: Send, cacheable: bool) -> Send:
    """Puts the policy on every answer, refused or not."""

    async def secure(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers["cache-control"] = "public, max-age=3600" if cacheable else "no-store"
        await send(message)

    return secure
