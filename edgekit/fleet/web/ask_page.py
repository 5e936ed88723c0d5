"""A board asked from its page: log, doctor, picture. The answer is shown once and kept nowhere; the asking is noted."""

from __future__ import annotations

import base64

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from edgekit.errors import EdgeKitError
from edgekit.fleet import audit
from edgekit.fleet.web.context import Context, who
from edgekit.fleet.web.pages import Pages
from edgekit_device.contract.asking import DONE, WHAT, Answer

# What a script of ours sends to get only the part that changes.
PART = "x-part"


def router(context: Context, pages: Pages) -> APIRouter:
    """Its one route."""
    made = APIRouter(include_in_schema=False)

    @made.post("/boards/{site}/{device}/ask")
    def ask(request: Request, site: str, device: str) -> Response:
        board = context.board(request, site, device)
        what = request.scope["form"].get("what", "")
        if what not in WHAT:
            raise HTTPException(400, f"what is one of {', '.join(WHAT)}")
        if context.ask is None:
            raise HTTPException(409, "boards cannot be asked here: there is no broker beside this dashboard")
        answer, silence, outcome = None, "", "the dashboard ended"
        try:
            answer = context.ask(board.key, what)
            outcome = audit.DONE if answer.outcome == DONE else f"{answer.outcome}: {answer.reason}"
        except EdgeKitError as error:
            silence = outcome = str(error)
        finally:
            audit.record(context.store, audit.on_board(who(request).user, f"{what} asked for", board.key, outcome))
        values = {"answer": answer, "shot": _data_url(answer), "silence": silence, "answered": device}
        if request.headers.get(PART):
            return HTMLResponse(pages.render("_answer.html", request, **values))
        return HTMLResponse(pages.board(request, site, device, **values))

    return made


def _data_url(answer: Answer | None) -> str:
    if answer is None or answer.picture is None:
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(answer.picture).decode()}"
