"""Rollouts as pages: where they stand, live; start, pause, resume, abort and pin for operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from edgekit.errors import EdgeKitError, UsageError
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.rollouts import orders, records
from edgekit.fleet.rollouts.picture import Picture, look, overview
from edgekit.fleet.rollouts.plan import Plan, parse_limits, parse_waves, parse_window
from edgekit.fleet.rollouts.state import OPEN
from edgekit.fleet.web.api import NO_SUCH, REFUSALS
from edgekit.fleet.web.context import Context, who
from edgekit.fleet.web.pages import Pages
from edgekit.fleet.web.streams import stream_of
from edgekit_device.contract.ids import split_bundle_id

ACTS: dict[str, Callable[..., Any]] = {"pause": orders.pause, "resume": orders.resume, "abort": orders.abort}
FIELDS = ("bundle", "waves", "max_failures", "where", "window", "gates", "max_rate", "jitter")
_SHOWN = 200
_MOST = 2**53


def router(context: Context, pages: Pages) -> APIRouter:
    """Its routes."""
    made = APIRouter(include_in_schema=False)

    def listed(request: Request, name: str, **more: Any) -> str:
        session = who(request)
        with context.store.reading() as connection:
            pinned = records.read_pins(connection)
        mine = [board for board in context.wall.latest().boards.values() if session.may_see(board.site)]
        boards = {board.number: board.key for board in mine}
        usual = {"waves": ",".join(Plan().waves), "max_failures": Plan().max_failures}
        return pages.render(
            name,
            request,
            shown=overview(context.store, context.now_ms(), session.may_see),
            pinned=[(boards[n], *words) for n, words in sorted(pinned.items()) if n in boards],
            releases=sorted({board.release for board in mine if board.release}),
            form={**dict.fromkeys(FIELDS, ""), **usual, **more.pop("form", {})},
            refused=more.pop("refused", ""),
            open_states=OPEN,
            page_name="rollouts",
        )  # fmt: skip

    def one(request: Request, number: int, name: str) -> str:
        found = _seen(context, request, number)
        return pages.render(
            name,
            request,
            each=found,
            lines=found.lines[:_SHOWN],
            whole=_is_whole(context, request, found),
            open_states=OPEN,
            page_name="rollouts",
        )

    @made.get("/rollouts", response_class=HTMLResponse)
    def every(request: Request) -> str:
        return listed(request, "rollouts.html")

    @made.get("/rollouts/{number}", response_class=HTMLResponse)
    def show(request: Request, number: int) -> str:
        return one(request, number, "rollout.html")

    @made.get("/stream/rollouts")
    async def live(request: Request) -> StreamingResponse:
        return stream_of(context, request, lambda: {"html": listed(request, "_rollouts.html")})

    @made.get("/stream/rollouts/{number}")
    async def live_one(request: Request, number: int) -> StreamingResponse:
        _seen(context, request, number)
        return stream_of(context, request, lambda: {"html": one(request, number, "_rollout.html")})

    @made.post("/rollouts/start")
    def start(request: Request) -> Response:
        form, session = request.scope["form"], who(request)
        try:
            named, plan = form.get("bundle", "").strip()[:128], _plan(form)
            split_bundle_id(named)
            context.check_release(named)
            begun = orders.start(context.store, named, plan, session.user, sites=session.sites, now_ms=context.now_ms())
        except EdgeKitError as error:
            kept = {name: form.get(name, "")[:1000] for name in FIELDS}
            return HTMLResponse(listed(request, "rollouts.html", form=kept, refused=str(error)), 400)
        return RedirectResponse(f"/rollouts/{begun.number}", 303)

    @made.post("/rollouts/act")
    def act(request: Request) -> Response:
        form = request.scope["form"]
        number, verb = form.get("number", ""), ACTS.get(form.get("act", ""))
        if verb is None or not (number.isascii() and number.isdigit() and len(number) < 10):
            raise HTTPException(400, f"act is one of {', '.join(ACTS)}, and number is a rollout's")
        found = _seen(context, request, int(number))
        if not _is_whole(context, request, found):
            raise HTTPException(403, "some of its boards are of sites that are not yours")
        try:
            verb(context.store, int(number), who(request).user)
        except EdgeKitError as error:
            raise HTTPException(409, str(error)) from error
        return RedirectResponse(f"/rollouts/{int(number)}", 303)

    @made.post("/rollouts/pin")
    def pin(request: Request) -> Response:
        form, user = request.scope["form"], who(request).user
        site, _, device = form.get("board", "").strip().partition(".")
        board = context.board(request, site, device).key
        try:
            if form.get("act") == "unpin":
                orders.unpin(context.store, BoardKey(*board), user)
            else:
                orders.pin(context.store, BoardKey(*board), user, form.get("reason", "")[:200], context.now_ms())
        except EdgeKitError as error:
            raise HTTPException(409, str(error)) from error
        return RedirectResponse("/rollouts", 303)

    return made


def api(context: Context) -> APIRouter:
    """The same for programs, to read."""
    made = APIRouter(responses=REFUSALS)

    @made.get("/api/v1/rollouts", summary="Rollouts, open ones first")
    def every(request: Request) -> dict[str, Any]:
        found = overview(context.store, context.now_ms(), who(request).may_see)
        return {"rollouts": [each.to_json() for each in found]}

    @made.get("/api/v1/rollouts/{number}", summary="One rollout and its boards", responses=NO_SUCH)
    def one(request: Request, number: Annotated[int, Path(ge=1, le=_MOST)]) -> dict[str, Any]:
        return _seen(context, request, number).to_json()

    return made


def _seen(context: Context, request: Request, number: int) -> Picture:
    """A rollout of which this person may see something.

    Raises:
        HTTPException: 404; the same whether there is none or it is somebody else's.
    """
    found = look(context.store, number, context.now_ms(), who(request).may_see) if 0 < number <= _MOST else None
    if found is None or not found.lines:
        raise HTTPException(404, "there is no such rollout")
    return found


def _is_whole(context: Context, request: Request, found: Picture) -> bool:
    """Whether this person may see each of its boards: nobody stops what others run."""
    if not who(request).sites:
        return True
    with context.store.reading() as connection:
        return len(records.read_members(connection, found.rollout.number)) == len(found.lines)


def _plan(form: dict[str, str]) -> Plan:
    rate, jitter = form.get("max_rate", "").strip(), form.get("jitter", "").strip()
    if (rate and not rate.isdigit()) or (jitter and not jitter.isdigit()):
        raise UsageError("the rate is in whole bytes per second, the random delay in whole seconds")
    return Plan(
        waves=parse_waves(form.get("waves", "")[:200]),
        max_failures=form.get("max_failures", "").strip()[:20],
        where=form.get("where", "")[:1000],
        window=parse_window(form.get("window", "").strip()[:20]),
        max_bytes_per_s=int(rate[:12]) if rate else None,
        jitter_s=float(jitter[:9]) if jitter else 0.0,
        force=form.get("force") == "on",
        limits=parse_limits(form.get("gates", "")[:200]),
    )
