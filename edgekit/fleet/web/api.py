"""The API: the same facts as JSON, described by /openapi.json."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import PlainTextResponse

from edgekit.errors import UsageError
from edgekit.fleet import alerts_records as records
from edgekit.fleet.alerts_state import FLEET, Alert
from edgekit.fleet.web.board_now import BoardNow
from edgekit.fleet.web.choosing import Asked, Card, choose
from edgekit.fleet.web.context import Context, who
from edgekit.fleet.web.metrics import metrics
from edgekit.fleet.web.pages import alert_key
from edgekit.fleet.web.series import happened, series, span_of

_ID = r"^[a-z0-9][a-z0-9-]{0,62}$"
_Site = Annotated[str, Path(pattern=_ID)]
_Device = Annotated[str, Path(pattern=_ID)]
_Range = Annotated[Literal["15m", "1h", "6h", "24h", "7d", "30d"] | None, Query(alias="range")]
_From = Annotated[int | None, Query(alias="from", ge=0, le=10**14, description="UTC, ms since 1970.")]
_To = Annotated[int | None, Query(alias="to", ge=0, le=10**14, description="UTC, ms since 1970.")]
REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "Not logged in."},
    403: {"description": "Not allowed."},
}
NO_SUCH: dict[int | str, dict[str, Any]] = {404: {"description": "There is no such board, or it is not yours to see."}}
_BAD: dict[int | str, dict[str, Any]] = {400: {"description": "The range is none."}}


class FindingOut(BaseModel):
    """One thing that is wrong now."""

    kind: str
    severity: Literal["critical", "warning", "notice"]
    text: str


class BoardOut(BaseModel):
    """One board. Text comes from the board."""

    site: str
    device: str
    standing: Literal["online", "silent", "stopped", "offline", "unknown"]
    reason: str | None
    at_ms: int | None
    received_ms: int | None
    window_s: float
    clock: str | None
    fps: float | None
    capture_fps: float | None
    p50_ms: float | None
    p95_ms: float | None
    label: str | None
    score: float | None
    delegate: str | None
    delegate_reason: str | None
    release: str | None
    temp_c: float | None
    throttled: list[str]
    rss_bytes: int | None
    disk_free_bytes: int | None
    load_1m: float | None
    source: str | None
    missing: int
    dropped: int
    findings: list[FindingOut]


class BoardsOut(BaseModel):
    """A page of boards, what is wrong first."""

    boards: list[BoardOut]
    found: int
    page: int
    pages: int


class BoardDetail(BaseModel):
    """One board, with what it should run and what it says it runs."""

    board: BoardOut
    desired: dict[str, Any] | None
    reported: dict[str, Any] | None


class FleetOut(BaseModel):
    """The fleet in figures."""

    boards: int
    online: int
    offline: int
    stopped: int
    needing: int
    alerts: int
    problem: str | None


class SeriesOut(BaseModel):
    """Columns of equal length; null is a hole."""

    step_ms: int
    at: list[float]
    fps: list[float | None]
    fps_min: list[float | None]
    fps_max: list[float | None]
    p50_ms: list[float | None]
    p95_ms: list[float | None]
    temp_at: list[float]
    temp_c: list[float | None]


class EventOut(BaseModel):
    """Something that happened on a board."""

    at_ms: int
    kind: str
    reason: str | None


class AlertOut(BaseModel):
    """One alert; `site` and `device` are ``*`` for the fleet itself."""

    site: str
    device: str
    kind: str
    severity: str
    text: str
    since_ms: int
    raised_ms: int | None
    ended_ms: int | None
    acknowledged_by: str | None
    silent_until_ms: int


class AlertsOut(BaseModel):
    """What stands, and what is over."""

    standing: list[AlertOut]
    over: list[AlertOut]


class AlertName(BaseModel):
    """Which alert."""

    model_config = ConfigDict(extra="forbid")
    site: str = Field(max_length=63)
    device: str = Field(max_length=63)
    kind: str = Field(max_length=32)


class SilenceIn(AlertName):
    """Which alert, and for how long nothing is sent about it; 0 lifts it."""

    minutes: float = Field(ge=0, le=525_600, allow_inf_nan=False)


class Done(BaseModel):
    """Whether it was done."""

    done: bool


def router(context: Context) -> APIRouter:
    """Routes of the API."""
    made = APIRouter(responses=REFUSALS)

    def out(board: BoardNow) -> BoardOut:
        findings = context.alarm.findings().get(board.key, ())
        values = asdict(board) | {"standing": board.standing(context.now_ms())}
        return BoardOut(**values, findings=[FindingOut(**f._asdict()) for f in findings])

    @made.get("/api/v1/fleet", summary="The fleet in figures")
    def fleet(request: Request) -> FleetOut:
        picture = context.wall.latest()
        shown = choose(picture, context.alarm.findings(), Asked(), who(request).may_see)
        standing = _mine(request, context.alarm.standing())
        counts = {name: shown.counts.get(name, 0) for name in ("online", "offline", "stopped")}
        problem = next((alert.text for alert in standing if alert.key.board == FLEET), None)
        return FleetOut(
            boards=shown.counts["all"], needing=shown.counts["needs"], alerts=len(standing), problem=problem, **counts
        )

    @made.get("/api/v1/boards", summary="Boards, what is wrong first")
    def boards(
        request: Request,
        q: Annotated[str, Query(max_length=100)] = "",
        show: Literal["", "needs", "online", "offline", "stopped"] = "",
        site: Annotated[str, Query(max_length=63)] = "",
        release: Annotated[str, Query(max_length=128)] = "",
        page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    ) -> BoardsOut:
        asked = Asked(words=q, show=show, site=site, release=release, page=page)
        shown = choose(context.wall.latest(), context.alarm.findings(), asked, who(request).may_see)
        cards: list[Card] = [card for group in shown.groups for card in group.cards]
        return BoardsOut(boards=[out(c.board) for c in cards], found=shown.found, page=shown.page, pages=shown.pages)

    @made.get("/api/v1/boards/{site}/{device}", summary="One board", responses=NO_SUCH)
    def board(request: Request, site: _Site, device: _Device) -> BoardDetail:
        found = context.board(request, site, device)
        wanted, says = context.wishes(found)
        return BoardDetail(board=out(found), desired=wanted, reported=says)

    @made.get("/api/v1/boards/{site}/{device}/series", summary="Measures over time", responses=NO_SUCH | _BAD)
    def measures(
        request: Request, site: _Site, device: _Device, name: _Range = None, since: _From = None, until: _To = None
    ) -> SeriesOut:
        found = context.board(request, site, device)
        span = _span(context, name, since, until)
        with context.store.reading() as connection:
            return SeriesOut(**vars(series(connection, found.number, span)))

    @made.get("/api/v1/boards/{site}/{device}/events", summary="What happened, newest first", responses=NO_SUCH | _BAD)
    def events(
        request: Request, site: _Site, device: _Device, name: _Range = None, since: _From = None, until: _To = None
    ) -> list[EventOut]:
        found = context.board(request, site, device)
        span = _span(context, name, since, until)
        with context.store.reading() as connection:
            return [EventOut(**event._asdict()) for event in happened(connection, found.number, span)]

    @made.get("/api/v1/alerts", summary="What stands, and what is over")
    def alerts(request: Request) -> AlertsOut:
        standing = _mine(request, context.alarm.standing())
        over = _mine(request, records.history(context.store))
        return AlertsOut(standing=[_alert(a) for a in standing], over=[_alert(a) for a in over])

    unknown: dict[int | str, dict[str, Any]] = {400: {"description": "There is no such kind."}, **NO_SUCH}

    @made.post("/api/v1/alerts/acknowledge", summary="Say that you know", responses=unknown)
    def acknowledge(request: Request, body: AlertName) -> Done:
        key = alert_key(request, body.model_dump())
        return Done(done=context.alarm.acknowledge(key, who(request).user))

    @made.post("/api/v1/alerts/silence", summary="Send nothing about it for a while", responses=unknown)
    def silence(request: Request, body: SilenceIn) -> Done:
        context.alarm.silence(alert_key(request, body.model_dump()), who(request).user, body.minutes)
        return Done(done=True)

    @made.get("/metrics", response_class=PlainTextResponse, summary="For Prometheus")
    def prometheus(request: Request) -> PlainTextResponse:
        standing = Counter((a.key.kind, a.severity) for a in _mine(request, context.alarm.standing()))
        text = metrics(context.wall.latest(), context.alarm.findings(), standing, who(request).may_see)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    return made


def _span(context: Context, name: str | None, since: int | None, until: int | None) -> Any:
    try:
        return span_of(name, since, until, context.now_ms())
    except UsageError as error:
        raise HTTPException(400, str(error)) from error


def _mine(request: Request, alerts: list[Alert]) -> list[Alert]:
    session = who(request)
    return [alert for alert in alerts if alert.key.board == FLEET or session.may_see(alert.key.board.site)]


def _alert(alert: Alert) -> AlertOut:
    values = {name: getattr(alert, name) for name in AlertOut.model_fields if hasattr(alert, name)}
    return AlertOut(site=alert.key.board.site, device=alert.key.board.device, kind=alert.key.kind, **values)
