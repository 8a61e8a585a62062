"""The headers of every response of the billing page, and the refusal of requests that another site makes."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "frame-ancestors 'self'",
        "base-uri 'none'",
        "form-action 'none'",
    )
)

_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}

# What browsers say about the origin of a request: "none" is a person who typed the address. An old browser, a script,
# and a browser over plain HTTP say nothing; they need a token, as everyone does.
_OWN_ORIGINS = (None, "same-origin", "none")


class SecurityHeaders:
    """
    Wraps an application, its error pages included.

    :param app: the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Serve a request, or refuse it.

        :param scope: as ASGI defines it.
        :param receive: as ASGI defines it.
        :param send: as ASGI defines it.
        """

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if scope["type"] == "http" and not _is_own(scope):
            refusal = JSONResponse({"detail": "Requests from other sites are refused."}, status_code=403)
            await refusal(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)


def _is_own(scope: Scope) -> bool:
    """Return whether a request may be answered: one of this site, or a link to the page itself, which has no data."""
    headers = Headers(scope=scope)
    if headers.get("sec-fetch-site") in _OWN_ORIGINS:
        return True
    is_link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return is_link and scope["path"].endswith("/page")
