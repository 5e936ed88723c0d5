"""The audit log as a page, for administrators; one who is bound to sites sees what was done there."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from edgekit.fleet import audit
from edgekit.fleet.web.context import Context, who
from edgekit.fleet.web.pages import Pages

_A_PAGE = 100


def router(context: Context, pages: Pages) -> APIRouter:
    """Its one route."""
    made = APIRouter(include_in_schema=False)

    @made.get("/audit", response_class=HTMLResponse)
    def show(request: Request) -> str:
        words, before = request.query_params.get("q", "")[:100], request.query_params.get("before", "")
        number = int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None
        found = audit.entries(
            context.store, limit=_A_PAGE + 1, before=number, words=words.replace("\0", ""), sites=who(request).sites
        )
        shown = found[:_A_PAGE]
        return pages.render(
            "audit.html",
            request,
            entries=shown,
            words=words,
            older=shown[-1].number if len(found) > _A_PAGE else None,
            newest=number is None,
            page_name="audit",
        )

    return made
