"""The pages people look at; templates escape everything, for boards choose much of what stands on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from edgekit.errors import UsageError
from edgekit.fleet import alerts_records as records
from edgekit.fleet import audit
from edgekit.fleet.alerts_judging import duration, expected_fps
from edgekit.fleet.alerts_rules import FLEET_KIND, KINDS
from edgekit.fleet.alerts_state import FLEET, AlertKey
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.web import drawing, users
from edgekit.fleet.web.board_now import BoardNow
from edgekit.fleet.web.choosing import Asked, choose
from edgekit.fleet.web.context import Context, who
from edgekit.fleet.web.guard import set_cookie
from edgekit.fleet.web.navigation import LINKS
from edgekit.fleet.web.roles import Role
from edgekit.fleet.web.series import RANGES, happened, span_of, sparks
from edgekit.fleet.web.wall import last_payload

HERE = Path(__file__).parent
SILENCES = (60, 480, 1440, 10_080)
_KNOWN_KINDS = (*KINDS, FLEET_KIND)


def environment() -> jinja2.Environment:
    """Templates with escaping on, whatever a file is called."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": drawing.number, "size": drawing.size, "clock": drawing.clock, "plain": drawing.plain,
        "spark": drawing.spark, "ago": drawing.ago,
    }  # fmt: skip
    made.globals |= {"Role": Role, "SPARK_BOX": f"0 0 {drawing.WIDTH} {drawing.HEIGHT}", "duration": duration}
    return made


def asked_of(request: Request) -> Asked:
    """The wall that a URL asks for; what is not understood is as usual."""
    query = request.query_params
    page = query.get("page", "1")
    return Asked(
        words=query.get("q", "")[:100],
        show=query.get("show", "") if query.get("show") in ("needs", "online", "offline", "stopped") else "",
        group=query.get("group", "") if query.get("group") in ("site", "release") else "none",
        site=query.get("site", "")[:63],
        release=query.get("release", "")[:128],
        page=int(page) if page.isascii() and page.isdigit() and len(page) < 7 else 1,
    )


class Pages:
    """Renders pages.

    Args:
        context: The running dashboard.
    """

    def __init__(self, context: Context) -> None:
        self._context, self._templates = context, environment()

    def render(self, name: str, request: Request, **values: Any) -> str:
        """One template with what every page needs."""
        session = request.scope.get("session")
        context = self._context
        standing = [
            a
            for a in context.alarm.standing()
            if session and (a.key.board == FLEET or session.may_see(a.key.board.site))
        ]
        return self._templates.get_template(name).render(
            session=session,
            now_ms=context.now_ms(),
            alert_count=sum(alert.acknowledged_by is None for alert in standing),
            problem=next((alert for alert in standing if alert.key.board == FLEET), None),
            note=context.note,
            links=[link for link in LINKS if session and session.role >= link.role],
            **values,
        )

    def wall(self, request: Request, name: str = "wall.html") -> str:
        """The wall, or only its moving part."""
        context, asked = self._context, asked_of(request)
        picture = context.wall.latest()
        shown = choose(picture, context.alarm.findings(), asked, who(request).may_see)
        visible = [card.board.number for group in shown.groups for card in group.cards]
        with context.store.reading() as connection:
            lines = sparks(connection, visible, context.now_ms()) if visible else {}
        return self.render(name, request, shown=shown, asked=asked, lines=lines, picture=picture, page_name="boards")

    def board(self, request: Request, site: str, device: str, **asked: Any) -> str:
        """One board; `asked` is what it answered, if somebody just asked it."""
        context = self._context
        board = context.board(request, site, device)
        query = request.query_params
        try:
            span = span_of(query.get("range"), _whole(query.get("from")), _whole(query.get("to")), context.now_ms())
        except UsageError as error:
            raise HTTPException(400, str(error)) from error
        with context.store.reading() as connection:
            last = last_payload(connection, board)
            events = happened(connection, board.number, span)
        wanted, says = context.wishes(board)
        baseline = context.alarm.baseline(board.release)
        return self.render(
            "board.html",
            request,
            board=board,
            standing=board.standing(context.now_ms()),
            findings=context.alarm.findings().get(board.key, ()),
            span=span,
            ranges=list(RANGES),
            last=last or {},
            events=events,
            wanted=wanted,
            says=says,
            baseline=baseline,
            expected=expected_fps(board, baseline),
            mix=_mix(board.mix, baseline, board.label),
            alerts=records.of_board(context.store, board.key, span.from_ms, span.to_ms),
            page_name="boards",
            askable=context.ask is not None,
            **{"answer": None, "shot": "", "silence": "", "answered": device, **asked},
        )

    def board_head(self, request: Request, board: BoardNow) -> str:
        """The moving part of a board's page."""
        context = self._context
        return self.render(
            "_board_head.html",
            request,
            board=board,
            standing=board.standing(context.now_ms()),
            findings=context.alarm.findings().get(board.key, ()),
            expected=expected_fps(board, context.alarm.baseline(board.release)),
        )

    def alerts(self, request: Request, name: str = "alerts.html") -> str:
        """What stands, and what is over."""
        context, session = self._context, who(request)

        def mine(board: BoardKey) -> bool:
            return board == FLEET or session.may_see(board.site)

        standing = [alert for alert in context.alarm.standing() if mine(alert.key.board)]
        over = [alert for alert in records.history(context.store) if mine(alert.key.board)]
        sender = context.alarm.sender
        return self.render(
            name, request, standing=standing, over=over, sender=sender, silences=SILENCES, FLEET=FLEET,
            rules=context.alarm.rules, page_name="alerts",
        )  # fmt: skip


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else None


def _mix(mix: Any, baseline: Any, label: str | None) -> list[dict[str, Any]]:
    """The most seen classes, each with its share now and in the baseline."""
    total, expected = sum(mix.values()), sum(baseline.mix.values())
    if total <= 0:
        return []
    rows = []
    for name, count in sorted(mix.items(), key=lambda item: -item[1])[:8]:
        index = int(name)
        text = baseline.labels[index] if index < len(baseline.labels) else None
        rows.append(
            {
                "name": text or f"class {name}",
                "share": count / total,
                "expected": baseline.mix.get(name, 0.0) / expected if expected else None,
            }
        )
    return rows


def router(context: Context, pages: Pages) -> APIRouter:
    """Routes of the pages and of their forms."""
    made = APIRouter(include_in_schema=False)

    @made.get("/healthz")
    def health() -> Response:
        problem = context.wall.latest().problem
        return Response(
            "the store does not answer\n" if problem else "ok\n", 503 if problem else 200, media_type="text/plain"
        )

    @made.get("/", response_class=HTMLResponse)
    def wall(request: Request) -> str:
        return pages.wall(request)

    @made.get("/boards/{site}/{device}", response_class=HTMLResponse)
    def board(request: Request, site: str, device: str) -> str:
        return pages.board(request, site, device)

    @made.get("/alerts", response_class=HTMLResponse)
    def alerts(request: Request) -> str:
        return pages.alerts(request)

    @made.get("/people", response_class=HTMLResponse)
    def people(request: Request) -> str:
        return pages.render("people.html", request, people=users.everyone(context.store), page_name="people")

    @made.get("/login", response_class=HTMLResponse)
    def login_page(request: Request) -> Response:
        if request.scope["session"] is not None:
            return RedirectResponse("/", 303)
        token = context.keeper.door.url_token is not None
        return HTMLResponse(pages.render("login.html", request, failed="", token=token, page_name="login"))

    @made.post("/login")
    def login(request: Request) -> Response:
        form = request.scope["form"]
        name, password = form.get("name", "").lower()[:64], form.get("password", "")
        client = request.client.host if request.client else "?"
        if not context.keeper.logins.allowed(f"{client} {name}"):
            text, code = "too many tries for this name from here; wait a minute", 429
        elif user := users.check(context.store, name, password):
            context.keeper.sessions.end(request.scope["secret"])
            secret, _ = context.keeper.sessions.begin(user.name, user.role, user.sites)
            audit.record(context.store, audit.Act(user.name, "logged in", f"from {client}"))
            answer = RedirectResponse("/", 303)
            set_cookie(answer, context.keeper.door, secret)
            return answer
        else:
            text, code = "name or password is wrong", 403
        token = context.keeper.door.url_token is not None
        return HTMLResponse(pages.render("login.html", request, failed=text, token=token, page_name="login"), code)

    @made.post("/logout")
    def logout(request: Request) -> Response:
        context.keeper.sessions.end(request.scope["secret"])
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(context.keeper.door.cookie, secure=context.keeper.door.tls, httponly=True, samesite="lax")
        return answer

    @made.post("/alerts/acknowledge")
    def acknowledge(request: Request) -> Response:
        key = alert_key(request, request.scope["form"])
        context.alarm.acknowledge(key, who(request).user)
        return RedirectResponse("/alerts", 303)

    @made.post("/alerts/silence")
    def silence(request: Request) -> Response:
        form = request.scope["form"]
        key = alert_key(request, form)
        minutes = form.get("minutes", "")
        if minutes not in ("0", *map(str, SILENCES)):
            raise HTTPException(400, f"minutes is one of 0, {', '.join(map(str, SILENCES))}")
        context.alarm.silence(key, who(request).user, float(minutes))
        return RedirectResponse("/alerts", 303)

    return made


def alert_key(request: Request, values: Any) -> AlertKey:
    """Which alert a form or a document names.

    Raises:
        HTTPException: It names none, or one of a site that this person may not see.
    """
    board, kind = BoardKey(values.get("site", ""), values.get("device", "")), values.get("kind", "")
    if kind not in _KNOWN_KINDS:
        raise HTTPException(400, "there is no such kind of alert")
    if board != FLEET and not who(request).may_see(board.site):
        raise HTTPException(404, "there is no such alert")
    return AlertKey(board, kind)
