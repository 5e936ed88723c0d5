"""The links on every page: one line each, in their order."""

from __future__ import annotations

from typing import NamedTuple

from edgekit.fleet.web.roles import Role


class Link(NamedTuple):
    """A page that every page leads to.

    Attributes:
        name: What that page calls itself (`page_name`).
        path: Where it is.
        label: What stands on the link.
        role: Who sees it; who may open it says roles.py.
    """

    name: str
    path: str
    label: str
    role: Role


LINKS = (
    Link("boards", "/", "Boards", Role.VIEWER),
    Link("alerts", "/alerts", "Alerts", Role.VIEWER),
    Link("rollouts", "/rollouts", "Rollouts", Role.VIEWER),
    Link("releases", "/releases", "Releases", Role.VIEWER),
    Link("enrol", "/enrol", "Enrol", Role.OPERATOR),
    Link("people", "/people", "People", Role.ADMINISTRATOR),
    Link("audit", "/audit", "Audit", Role.ADMINISTRATOR),
)
