"""Enrolment: who has joined, who wants to, and a person who decides."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from edgekit.errors import EdgeKitError
from edgekit.fleet import audit
from edgekit.fleet.web.context import Context, Joins, who
from edgekit.fleet.web.pages import Pages
from edgekit.fleet.web.streams import stream_of


def router(context: Context, pages: Pages) -> APIRouter:
    """Its routes."""
    made = APIRouter(include_in_schema=False)

    def page(request: Request, name: str = "enrol.html", said: str = "") -> str:
        session, joins = who(request), context.joins
        members = context.members() if context.members else None
        if members is not None:
            members = [m for m in members if session.may_see(str(m["name"]).partition(".")[0])]
        asking = [a for a in joins.waiting() if session.may_see(a.name.partition(".")[0])] if joins else []
        open_s = joins.open_s if joins else 0.0
        return pages.render(
            name, request, members=members, joins=joins, asking=asking, open_s=open_s, said=said, page_name="enrol"
        )

    @made.get("/enrol", response_class=HTMLResponse)
    def enrol(request: Request) -> str:
        return page(request)

    @made.get("/stream/enrol")
    async def stream(request: Request) -> StreamingResponse:
        return stream_of(context, request, lambda: {"html": page(request, "_enrol.html")})

    @made.post("/enrol/open")
    def open_(request: Request) -> Response:
        _joins(context).open()
        audit.record(context.store, audit.Act(who(request).user, "joining opened", "the fleet"))
        return RedirectResponse("/enrol", 303)

    @made.post("/enrol/close")
    def close(request: Request) -> Response:
        _joins(context).close()
        audit.record(context.store, audit.Act(who(request).user, "joining closed", "the fleet"))
        return RedirectResponse("/enrol", 303)

    @made.post("/enrol/decide")
    def decide(request: Request) -> Response:
        form, session, joins = request.scope["form"], who(request), _joins(context)
        number, code, word = (form.get(key, "")[:64] for key in ("number", "code", "word"))
        asking = next((a for a in joins.waiting() if a.number == number), None)
        if word not in ("admit", "refuse"):
            raise HTTPException(400, "word is admit or refuse")
        site = asking.name.partition(".")[0] if asking else ""
        if asking is None or not session.may_see(site):
            raise HTTPException(404, "this board does not wait any more")
        what = "board admitted" if word == "admit" else "board refused"
        try:
            joins.decide(number, code, admit=word == "admit")
        except EdgeKitError as error:
            audit.record(context.store, audit.Act(session.user, what, asking.name, str(error), site))
            return HTMLResponse(page(request, said=str(error)), 409)
        audit.record(context.store, audit.Act(session.user, what, f"{asking.name} from {asking.address}", site=site))
        return RedirectResponse("/enrol", 303)

    return made


def _joins(context: Context) -> Joins:
    if context.joins is None:
        raise HTTPException(409, "no board can ask to join here; do first: edgekit fleet init, then fleet up again")
    return context.joins
