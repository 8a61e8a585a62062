"""
The plugin that adds *Browse → AI/ML API billing* to the Airflow UI, from Airflow 3.1 on.

Every process of Airflow imports this module, so it imports nothing but the base class. The API server builds the page
with the first request to it.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow_provider_aimlbilling.compat import AIRFLOW_3_1, AirflowPlugin, conf

TITLE = "AI/ML API billing"
URL_PREFIX = "/aimlbilling"

_App = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]
]


class BillingPageApp:
    """The ASGI application of the page. It is built with the first request, in a thread, because that takes a while."""

    def __init__(self) -> None:
        self._app: _App | None = None
        self._lock = threading.Lock()

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """
        Serve a request.

        :param scope: as ASGI defines it.
        :param receive: as ASGI defines it.
        :param send: as ASGI defines it.
        """
        app = self._app
        if app is None:
            import asyncio

            app = await asyncio.to_thread(self._built)
        await app(scope, receive, send)

    def _built(self) -> _App:
        with self._lock:  # two first requests must not build two applications, each with its own cache
            if self._app is None:
                from airflow_provider_aimlbilling.plugins.page.app import build_app

                self._app = build_app()
            return self._app


def _is_shown() -> bool:
    return AIRFLOW_3_1 and conf.getboolean("aimlbilling", "billing_page", fallback=True)


class BillingPagePlugin(AirflowPlugin):
    """Declares the page; nothing before Airflow 3.1, or if ``[aimlbilling] billing_page`` is off."""

    name = "aimlbilling"
    fastapi_apps: list[Any] = (
        [{"app": BillingPageApp(), "url_prefix": URL_PREFIX, "name": TITLE}] if _is_shown() else []
    )
    external_views: list[Any] = (
        [
            {
                "name": TITLE,
                "href": "aimlbilling/page",  # without a slash, so that it is below the path of [api] base_url
                "destination": "nav",
                "category": "browse",
                "url_route": "aimlbilling",
            }
        ]
        if _is_shown()
        else []
    )
