"""Who may do what: ONE table for every page, API route and event stream. What stands not in it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum


class Role(IntEnum):
    """What somebody may do; a higher one may do all that a lower one may."""

    NOBODY = 0
    VIEWER = 1
    OPERATOR = 2
    ADMINISTRATOR = 3

    @classmethod
    def named(cls, name: str) -> Role:
        """By its name in lower case.

        Raises:
            KeyError: There is none.
        """
        return {role.name.lower(): role for role in cls if role}[name]


# NOBODY: also without logging in. Nothing that a board sent stands on such a page.
RULES: Mapping[tuple[str, str], Role] = {
    ("GET", "/healthz"): Role.NOBODY,
    ("GET", "/static/{path:path}"): Role.NOBODY,
    # Signed, and no secret: what a static web server would serve as well. Boards have no login here.
    ("GET", "/updates/{path:path}"): Role.NOBODY,
    ("GET", "/login"): Role.NOBODY,
    ("POST", "/login"): Role.NOBODY,
    ("POST", "/logout"): Role.VIEWER,
    ("GET", "/"): Role.VIEWER,
    ("GET", "/boards/{site}/{device}"): Role.VIEWER,
    ("POST", "/boards/{site}/{device}/ask"): Role.OPERATOR,
    ("GET", "/alerts"): Role.VIEWER,
    ("POST", "/alerts/acknowledge"): Role.OPERATOR,
    ("POST", "/alerts/silence"): Role.OPERATOR,
    ("GET", "/rollouts"): Role.VIEWER,
    ("GET", "/rollouts/{number}"): Role.VIEWER,
    ("GET", "/stream/rollouts"): Role.VIEWER,
    ("GET", "/stream/rollouts/{number}"): Role.VIEWER,
    ("POST", "/rollouts/start"): Role.OPERATOR,
    ("POST", "/rollouts/act"): Role.OPERATOR,
    ("POST", "/rollouts/pin"): Role.OPERATOR,
    ("GET", "/releases"): Role.VIEWER,
    ("GET", "/enrol"): Role.OPERATOR,
    ("POST", "/enrol/open"): Role.OPERATOR,
    ("POST", "/enrol/close"): Role.OPERATOR,
    ("POST", "/enrol/decide"): Role.OPERATOR,
    ("GET", "/stream/enrol"): Role.OPERATOR,
    ("GET", "/people"): Role.ADMINISTRATOR,
    ("GET", "/audit"): Role.ADMINISTRATOR,
    ("GET", "/stream/wall"): Role.VIEWER,
    ("GET", "/stream/alerts"): Role.VIEWER,
    ("GET", "/stream/boards/{site}/{device}"): Role.VIEWER,
    ("GET", "/metrics"): Role.VIEWER,
    ("GET", "/openapi.json"): Role.VIEWER,
    ("GET", "/api/v1/fleet"): Role.VIEWER,
    ("GET", "/api/v1/boards"): Role.VIEWER,
    ("GET", "/api/v1/boards/{site}/{device}"): Role.VIEWER,
    ("GET", "/api/v1/boards/{site}/{device}/series"): Role.VIEWER,
    ("GET", "/api/v1/boards/{site}/{device}/events"): Role.VIEWER,
    ("GET", "/api/v1/rollouts"): Role.VIEWER,
    ("GET", "/api/v1/rollouts/{number}"): Role.VIEWER,
    ("GET", "/api/v1/alerts"): Role.VIEWER,
    ("POST", "/api/v1/alerts/acknowledge"): Role.OPERATOR,
    ("POST", "/api/v1/alerts/silence"): Role.OPERATOR,
}

# What a token that programs carry may do: read numbers, never change anything.
TOKEN_PATHS = ("/metrics", "/api/v1/")


def needed(method: str, path: str) -> Role | None:
    """The least role for a route; None where no rule stands: then nobody may.

    Args:
        method: HEAD is as GET.
        path: The route's template, e.g. ``/boards/{site}/{device}``.
    """
    return RULES.get(("GET" if method == "HEAD" else method, path))
