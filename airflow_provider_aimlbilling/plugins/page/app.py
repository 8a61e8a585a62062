"""The application of the billing page: the page, its static files, and the routes that it fetches its figures from."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from airflow_provider_aimlbilling.plugins.page import account_routes, task_routes
from airflow_provider_aimlbilling.plugins.page.access import MAY_SEE_PAGE
from airflow_provider_aimlbilling.plugins.page.reading_cache import ReadingCache
from airflow_provider_aimlbilling.plugins.page.security_headers import SecurityHeaders

STATIC = Path(__file__).parent / "static"

# Browsers ask whether a file has changed each time, so that an update of the provider shows at once.
_REVALIDATE = "private, no-cache"


def build_app(cache: ReadingCache | None = None) -> ASGIApp:
    """
    Return a new application.

    :param cache: the figures of the accounts; ``None`` for a new cache.
    """
    # The documentation routes of FastAPI would be open to everyone.
    app = FastAPI(
        title="AI/ML API billing",
        dependencies=[MAY_SEE_PAGE],
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    files = StaticFiles(directory=STATIC)

    # Not mounted: the dependencies of the application do not apply to what is mounted in it.
    @app.get("/page")
    async def page(request: Request) -> Response:
        return await _file(files, "index.html", request)

    @app.get("/static/{name}")
    async def static(name: str, request: Request) -> Response:
        return await _file(files, name, request)

    app.include_router(account_routes.new_router(cache or ReadingCache()), prefix="/api")
    app.include_router(task_routes.router, prefix="/api")
    return SecurityHeaders(app)


async def _file(files: StaticFiles, name: str, request: Request) -> Response:
    if not name.isprintable():  # older versions of Starlette fail at a NUL character
        raise HTTPException(404)
    response = await files.get_response(name, request.scope)
    response.headers["Cache-Control"] = _REVALIDATE
    return response
