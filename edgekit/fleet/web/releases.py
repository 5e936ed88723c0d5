"""The page of releases: what runs where, how it does, and what is worse than before."""

from __future__ import annotations

import threading
import time

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from edgekit.fleet.rollouts.releases import SAMPLE, Row, rows
from edgekit.fleet.web.context import Context, who
from edgekit.fleet.web.pages import Pages

# Looking costs some queries a board; nobody needs it fresher.
_KEPT_S = 20.0


def router(context: Context, pages: Pages) -> APIRouter:
    """Its one route."""
    made = APIRouter(include_in_schema=False)
    kept: dict[frozenset[str], tuple[float, list[Row]]] = {}
    lock = threading.Lock()

    def looked(request: Request) -> list[Row]:
        session = who(request)
        sites = frozenset(session.sites)
        with lock:
            known = kept.get(sites)
            if known is None or time.monotonic() - known[0] > _KEPT_S:
                known = (time.monotonic(), rows(context.store, context.now_ms(), session.may_see))
                kept.clear() if len(kept) > 50 else None
                kept[sites] = known
            return known[1]

    @made.get("/releases", response_class=HTMLResponse)
    def show(request: Request) -> str:
        found = looked(request)
        return pages.render(
            "releases.html",
            request,
            rows=found,
            named={row.release: _names(context, row) for row in found},
            said=[sentence for row in found for sentence in row.sentences],
            sample=SAMPLE,
            page_name="releases",
        )

    return made


def _names(context: Context, row: Row) -> list[tuple[str, float]]:
    labels = context.alarm.baseline(row.release).labels
    return [
        (labels[int(name)] if name.isdigit() and int(name) < len(labels) else f"class {name}", share)
        for name, share in row.labels()
    ]
