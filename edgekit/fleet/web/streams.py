"""Server-sent events: what changed, as the server would have drawn it. They end with their session."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

from edgekit.fleet.web.context import Context, who
from edgekit.fleet.web.pages import Pages

_PER_SESSION, _IN_ALL = 8, 200
_ALIVE_S = 15.0
_WATCH_S = 25.0
# More than once a second nobody reads; drawing for a large fleet may take a little.
_BRIEF_S = 0.25


def router(context: Context, pages: Pages) -> APIRouter:
    """Routes of the event streams."""
    made = APIRouter(include_in_schema=False)

    @made.get("/stream/wall")
    async def wall(request: Request) -> StreamingResponse:
        return stream_of(context, request, lambda: {"html": pages.wall(request, "_wall.html")})

    @made.get("/stream/alerts")
    async def alerts(request: Request) -> StreamingResponse:
        return stream_of(context, request, lambda: {"html": pages.alerts(request, "_alerts.html")})

    @made.get("/stream/boards/{site}/{device}")
    async def board(request: Request, site: str, device: str) -> StreamingResponse:
        context.board(request, site, device)
        asked = [float("-inf")]

        def look() -> dict[str, Any]:
            found = context.board(request, site, device)
            loop_s = context.now()
            if loop_s - asked[0] > _WATCH_S:
                asked[0] = loop_s
                context.watch(found.key)
            return {
                "at": found.at_ms,
                "fps": found.fps,
                "p50_ms": found.p50_ms,
                "p95_ms": found.p95_ms,
                "temp_c": found.temp_c,
                "html": pages.board_head(request, found),
            }

        return stream_of(context, request, look)

    return made


def stream_of(context: Context, request: Request, look: Callable[[], dict[str, Any]]) -> StreamingResponse:
    """What `look` gives, whenever it is another than before.

    Raises:
        HTTPException: 429; too many streams are open.
    """
    session = who(request)
    if session.streams >= _PER_SESSION or context.streams[0] >= _IN_ALL:
        raise HTTPException(429, "too many live pages are open; close some")
    return StreamingResponse(
        _events(context, request, look), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


async def _events(context: Context, request: Request, look: Callable[[], dict[str, Any]]) -> AsyncIterator[str]:
    session = who(request)
    session.streams += 1
    context.streams[0] += 1
    last, version, spoke_s = b"", -1, 0.0
    loop = asyncio.get_running_loop()
    try:
        yield "retry: 2000\n\n"
        while not (session.ended or context.stopping() or await request.is_disconnected()):
            seen = context.wall.latest().version
            # Ages on the page grow without any change: look again now and then.
            if seen != version or loop.time() - spoke_s > 5:
                version = seen
                data = json.dumps(await run_in_threadpool(look))
                mark = hashlib.blake2b(data.encode()).digest()
                if mark != last:
                    last, spoke_s = mark, loop.time()
                    yield f"event: now\ndata: {data}\n\n"
            if loop.time() - spoke_s > _ALIVE_S:
                spoke_s = loop.time()
                yield ": alive\n\n"
            await asyncio.sleep(_BRIEF_S if context.every_s < 1 else 0.5)
        if session.ended:
            yield "event: ended\ndata: {}\n\n"
    finally:
        session.streams -= 1
        context.streams[0] -= 1
