"""At the door, before any route: Host, session, the authorisation table, Origin, CSRF; and headers on every answer.

Pure ASGI, so it stands before HTTP routes and event streams alike. Deny by default: a route that the table does not
name is refused.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match, Mount

from edgekit.fleet.web.answers import MAX_BODY_BYTES, again, refusal, whole, with_headers
from edgekit.fleet.web.roles import TOKEN_PATHS, Role, needed
from edgekit.fleet.web.sessions import Attempts, Session, Sessions

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from edgekit.fleet.store import Store

_LOG = logging.getLogger(__name__)
SAFE = ("GET", "HEAD")
# Whoever opened the URL that `fleet up` printed; no user may be called so.
LOCAL = "(this machine)"


@dataclass(frozen=True)
class Door:
    """How the dashboard is reached and by whom.

    Attributes:
        origins: ``scheme://host:port`` under which browsers reach it; every other Host and Origin is refused.
        tls: Whether browsers reach it by TLS: then the cookie is a ``__Host-`` one.
        port: For the cookie's name without TLS: cookies know no ports.
        url_token: Opens the door from the URL that `fleet up` prints; None where users log in.
        program_token: What Prometheus and scripts send as ``Authorization: Bearer``; None for nobody.
        proxy_header: Header in which a trusted proxy names the user; None without one.
        proxy_addresses: Where that proxy speaks from.
    """

    origins: tuple[str, ...]
    tls: bool = False
    port: int = 8080
    url_token: str | None = None
    program_token: str | None = None
    proxy_header: str | None = None
    proxy_addresses: tuple[str, ...] = ()

    @property
    def hosts(self) -> frozenset[str]:
        """Allowed Host headers."""
        return frozenset(urlsplit(origin).netloc for origin in self.origins)

    @property
    def cookie(self) -> str:
        """Its name."""
        return "__Host-edgekit" if self.tls else f"edgekit-{self.port}"


@dataclass
class Keeper:
    """What the door remembers."""

    door: Door
    store: Store
    sessions: Sessions = field(default_factory=Sessions)
    logins: Attempts = field(default_factory=Attempts)
    tokens: Attempts = field(default_factory=lambda: Attempts(20, 60.0))

    def review(self) -> None:
        """Log out whoever was taken away, or has another role or other sites by now."""
        from edgekit.fleet.web import users

        for name in self.sessions.users() - {LOCAL}:
            user = users.find(self.store, name)
            for session in self.sessions.held_by(name):
                if user is None or (user.role, user.sites) != (session.role, session.sites):
                    self.sessions.end_all(name)
                    break


class Guard:
    """ASGI middleware.

    Args:
        app: What stands behind the door.
        keeper: Sessions and limits.
        routes: Of the application, for finding which one a request means.
    """

    def __init__(self, app: ASGIApp, keeper: Keeper, routes: list[Any]) -> None:
        self._app, self._keeper, self._routes = app, keeper, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # No WebSocket is served.
        secure = with_headers(send, scope["path"].startswith("/static/"))
        answer = self._stopped(scope)
        if answer is None and scope["method"] not in SAFE:
            body = await whole(receive)
            answer = self._unproved(scope, body)
            receive = again(body)
        if answer is not None:
            await answer(scope, receive, secure)
            return
        await self._app(scope, receive, secure)

    def _stopped(self, scope: Scope) -> Response | None:
        """The answer to what may not come in; None to let it in with its session in the scope."""
        headers, method = Headers(scope=scope), scope["method"]
        door = self._keeper.door
        if headers.get("host", "").lower() not in door.hosts:
            return refusal(scope, 421, "this name is not one of the dashboard's; open the URL that fleet up printed")
        path, role = self._rule(scope)
        if path is None:
            return refusal(scope, 404, "there is no such page")
        if role is None:
            return refusal(
                scope, 405 if method not in (*SAFE, "POST") or self._other_method(path) else 403, "not allowed"
            )
        if int(headers.get("content-length") or 0) > MAX_BODY_BYTES:
            return refusal(scope, 413, "too much")
        entered = self._by_url_token(scope, headers)
        if entered is not None:
            return entered
        session = self._session(scope, headers, path)
        scope["session"], scope["secret"] = session, _cookie(headers, door.cookie)
        if method not in SAFE:
            refused = self._foreign(scope, headers, session)
            if refused is not None:
                return refused
        elif headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") not in (None, "navigate"):
            return refusal(scope, 403, "another site may not read this")
        if role is Role.NOBODY:
            return None
        if session is None:
            if method == "GET" and "text/html" in headers.get("accept", ""):
                return RedirectResponse("/login", 303)
            return refusal(scope, 401, "log in first")
        if session.role < role:
            return refusal(scope, 403, f"this needs the role {role.name.lower()}")
        return None

    def _unproved(self, scope: Scope, body: bytes | None) -> Response | None:
        """Why a change is refused for its body; puts a form's fields into the scope."""
        if body is None:
            return refusal(scope, 413, "too much")
        headers, session = Headers(scope=scope), scope["session"]
        form: dict[str, str] = {}
        if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            try:
                pairs = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=100)
            except ValueError:
                return refusal(scope, 400, "this is no form")
            form = {name: values[0] for name, values in pairs.items()}
        scope["form"] = form
        if session is None:
            return None  # Logging in: the Origin was checked, and there is no session to abuse.
        given = headers.get("x-csrf-token") or form.get("csrf", "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), session.csrf.encode()):
            return refusal(scope, 403, "the page is too old; load it again")
        return None

    def _rule(self, scope: Scope) -> tuple[str | None, Role | None]:
        method = scope["method"]
        partial: str | None = None
        for route in self._routes:
            match, _ = route.matches(scope)
            if match is Match.NONE:
                continue
            path = getattr(route, "path_format", None) or route.path
            path = f"{route.path}/{{path:path}}" if isinstance(route, Mount) else path
            if match is Match.FULL:
                return path, needed(method, path)
            partial = path
        return partial, None

    def _other_method(self, path: str) -> bool:
        return any(needed(method, path) is not None for method in ("GET", "POST"))

    def _by_url_token(self, scope: Scope, headers: Headers) -> Response | None:
        """The token in the URL becomes a cookie, and leaves the address bar."""
        door = self._keeper.door
        if door.url_token is None or scope["method"] != "GET" or scope["path"] != "/":
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if not given:
            return None
        if not self._keeper.tokens.allowed(_peer(scope)):
            return refusal(scope, 429, "too many tries; wait a minute")
        if not hmac.compare_digest(given[0].encode(), door.url_token.encode()):
            return refusal(scope, 403, "the token is not this dashboard's; open the URL that fleet up printed last")
        secret, _ = self._keeper.sessions.begin(LOCAL, Role.ADMINISTRATOR)
        self._keeper.sessions.end(_cookie(headers, door.cookie))
        answer = RedirectResponse("/", 303)
        set_cookie(answer, door, secret)
        return answer

    def _session(self, scope: Scope, headers: Headers, path: str) -> Session | None:
        keeper, door = self._keeper, self._keeper.door
        kind, _, given = headers.get("authorization", "").partition(" ")
        if given and kind.lower() == "bearer" and door.program_token and path.startswith(TOKEN_PATHS):
            right = hmac.compare_digest(given.encode(), door.program_token.encode())
            return Session("program", Role.VIEWER, program=True) if right else None
        if door.proxy_header and _peer(scope) in door.proxy_addresses:
            return self._by_proxy(headers.get(door.proxy_header, ""), headers)
        return keeper.sessions.find(_cookie(headers, door.cookie))

    def _by_proxy(self, name: str, headers: Headers) -> Session | None:
        from edgekit.fleet.web import users

        user = users.find(self._keeper.store, name.lower()[:64]) if name else None
        if user is None:
            return None
        # No cookie of ours: the proxy vouches each time. The CSRF token is bound to the user and this process.
        csrf = hmac.digest(_PROXY_KEY, user.name.encode(), "sha256").hex()
        return Session(user.name, user.role, user.sites, csrf=csrf)

    def _foreign(self, scope: Scope, headers: Headers, session: Session | None) -> Response | None:
        """Why a change is refused: another site asks for it, or it brings no proof that one of our pages does."""
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in self._keeper.door.origins:
            return refusal(scope, 403, "another site asks for this")
        if origin is None and headers.get("sec-fetch-site") not in (None, "same-origin", "none"):
            return refusal(scope, 403, "another site asks for this")
        if session is not None and session.program:
            return refusal(scope, 403, "a token only reads")
        if origin is None and session is None:
            return refusal(scope, 403, "say where this comes from (Origin)")
        return None


_PROXY_KEY = secrets.token_bytes(32)


def set_cookie(answer: Response, door: Door, secret: str) -> None:
    """Hand a session's secret to the browser."""
    answer.set_cookie(door.cookie, secret, httponly=True, secure=door.tls, samesite="lax", path="/")


def _cookie(headers: Headers, name: str) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return None
    return found.value if found else None


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else "?"
