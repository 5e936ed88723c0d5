"""The application: routes behind the guard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from edgekit import __version__
from edgekit.errors import StoreUnavailableError
from edgekit.fleet.web import api, ask_page, audit_page, enrol_page, releases, rollouts, streams
from edgekit.fleet.web import pages as page_routes
from edgekit.fleet.web.guard import Guard
from edgekit.fleet.web.pages import HERE, Pages

if TYPE_CHECKING:
    from starlette.types import Scope

    from edgekit.fleet.web.context import Context


def routes_of(app: FastAPI) -> list[Any]:
    """Every route there is, for the guard and for the test that holds the authorisation table against them."""
    return list(app.routes)


def make_app(context: Context) -> tuple[Guard, FastAPI]:
    """Build the dashboard.

    Returns:
        What a server serves, and the application inside it.
    """
    app = FastAPI(
        title="EdgeKit fleet",
        version=__version__,
        description="The fleet as JSON. GET needs the role viewer, changes need operator.",
        docs_url=None,  # Its pages load scripts from elsewhere.
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    pages = Pages(context)
    routers = (
        page_routes.router(context, pages), ask_page.router(context, pages), audit_page.router(context, pages),
        enrol_page.router(context, pages),
        streams.router(context, pages),
        rollouts.router(context, pages), releases.router(context, pages),
        api.router(context), rollouts.api(context),
    )  # fmt: skip
    for router in routers:
        # Not include_router: newer FastAPI hides what is included behind one entry, and the guard must see each route.
        app.router.routes.extend(router.routes)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    app.mount("/updates", UpdateFiles(context.updates), name="updates")

    @app.exception_handler(StoreUnavailableError)
    async def away(request: Request, error: StoreUnavailableError) -> Response:
        return _said(pages, request, 503, "the store does not answer; the page comes back when it does")

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return _said(pages, request, error.status_code, str(error.detail))

    return Guard(app, context.keeper, routes_of(app)), app


class UpdateFiles(StaticFiles):
    """The repository's files as they lie, ranges too; none where there is no repository.

    Args:
        folder: Of the repository; it may come later.
    """

    def __init__(self, folder: Path | None) -> None:
        super().__init__(directory=folder or HERE / "static", check_dir=False)
        self._folder = folder

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer for one file."""
        # Nothing else that may lie in that folder, nor a file that is still being written.
        plain = path.startswith(("metadata/", "targets/")) and "/." not in path
        if self._folder is None or not plain or not self._folder.is_dir():
            raise HTTPException(404, "there is no such file")
        return await super().get_response(path, scope)


def _said(pages: Pages, request: Request, code: int, text: str) -> Response:
    if "text/html" in request.headers.get("accept", "") and request.scope.get("session"):
        return HTMLResponse(pages.render("error.html", request, code=code, text=text, page_name=""), code)
    return JSONResponse({"detail": text}, code)
