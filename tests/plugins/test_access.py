"""Who gets what: every route, with every kind of user, token and origin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from support import KEY

from airflow_provider_aimlbilling.plugins.page.security_headers import CONTENT_SECURITY_POLICY
from airflow_provider_aimlbilling.sandbox import Sandbox

ACCOUNT = "/aimlbilling/api/connections/aimlbilling_default/account"
SPENDING = "/aimlbilling/api/connections/aimlbilling_default/spending"
CONNECTIONS = "/aimlbilling/api/connections"
ROUTES = ["/aimlbilling/page", "/aimlbilling/static/index.html", CONNECTIONS, ACCOUNT, SPENDING]
TASK_ROUTES = ["/aimlbilling/api/gates", "/aimlbilling/api/held", "/aimlbilling/api/runs"]
BEARER = "Authorization"

pytestmark = pytest.mark.usefixtures("sandbox")


def ids(response: Any) -> list[str]:
    return [entry["connection_id"] for entry in response.json()["connections"]]


@pytest.mark.parametrize("route", ROUTES)
def test_a_user_who_may_read_connections_sees_all(client_of: Any, route: str) -> None:
    for role in ("admin", "op"):
        assert client_of(role).get(route).status_code == 200


@pytest.mark.parametrize("role", ["viewer", "user"])
def test_a_user_without_connections_sees_none(client_of: Any, sandbox: Sandbox, role: str) -> None:
    client = client_of(role)
    assert client.get("/aimlbilling/page").status_code == 200
    assert ids(client.get(CONNECTIONS)) == []
    for route in (ACCOUNT, SPENDING):
        response = client.get(route)
        assert (response.status_code, response.json()) == (403, {"detail": "Forbidden"})
    assert sandbox.requests == [], "nothing is read for somebody who may not see it"


@pytest.mark.parametrize("route", [*ROUTES, *TASK_ROUTES])
def test_nobody_gets_anything_without_a_valid_token(
    app: Any, token: Callable[..., str], sandbox: Sandbox, route: str
) -> None:
    from fastapi.testclient import TestClient

    client = TestClient(app)
    for headers, status in (
        ({}, 401),
        ({BEARER: f"Bearer {token()[:-5]}xxxxx"}, 403),
        ({BEARER: "Bearer "}, 401),
        ({BEARER: f"Bearer {token(expiration_time_in_seconds=-3600)}"}, 401),
        ({"Cookie": "_token=bad"}, 403),
    ):
        response = client.get(route, headers=headers)
        if response.status_code == 404:
            pytest.skip("a route that does not exist")
        assert response.status_code == status, headers
        assert set(response.json()) == {"detail"}
    assert sandbox.requests == []


def test_the_cookie_of_the_ui_is_enough(app: Any, token: Callable[..., str]) -> None:
    from fastapi.testclient import TestClient

    assert TestClient(app).get(ACCOUNT, headers={"Cookie": f"_token={token()}"}).status_code == 200


@pytest.mark.parametrize("route", [*ROUTES, *TASK_ROUTES])
def test_who_may_not_see_plugins_may_not_see_the_page(
    client_of: Any, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    client = client_of("admin")
    monkeypatch.setattr(get_auth_manager(), "is_authorized_view", lambda **_: False)
    assert client.get(route).status_code in (403, 404 if route in TASK_ROUTES else 403)


def test_a_user_of_one_connection_sees_only_that(
    client_of: Any, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    monkeypatch.setenv("AIRFLOW_CONN_THEIRS", sandbox.connection(timeout=2))
    monkeypatch.setattr(
        get_auth_manager(), "is_authorized_connection", lambda details, **_: details.conn_id == "theirs"
    )
    client = client_of("viewer")
    assert ids(client.get(CONNECTIONS)) == ["theirs"]
    assert client.get(ACCOUNT).status_code == 403
    assert client.get(ACCOUNT.replace("aimlbilling_default", "theirs")).json()["connection_id"] == "theirs"


@pytest.mark.parametrize("site", ["cross-site", "same-site", "something new"])
def test_another_site_gets_no_data(client_of: Any, sandbox: Sandbox, site: str) -> None:
    client = client_of("admin")
    for route in ROUTES:
        for more in ({}, {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}):
            response = client.get(route, headers={"Sec-Fetch-Site": site, **more})
            assert (response.status_code, set(response.json())) == (403, {"detail"})
    link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get(ACCOUNT, headers=link).status_code == 403
    assert client.get("/aimlbilling/page", headers=link).status_code == 200
    assert sandbox.requests == []


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_airflow_itself_and_a_typed_address_get_data(client_of: Any, site: str) -> None:
    assert client_of("admin").get(ACCOUNT, headers={"Sec-Fetch-Site": site}).status_code == 200


@pytest.mark.parametrize(
    "route", [*ROUTES, "/aimlbilling/nothing", "/aimlbilling/api/connections/unknown/account", "/aimlbilling/static/no"]
)
def test_every_response_has_the_security_headers(client_of: Any, route: str) -> None:
    for headers in ({}, {"Sec-Fetch-Site": "cross-site"}, {BEARER: "Bearer bad"}):
        response = client_of("admin").get(route, headers=headers)
        assert response.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        cached = response.status_code == 200 and "/api/" not in route
        assert response.headers["Cache-Control"] == ("private, no-cache" if cached else "no-store")
        assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"])
@pytest.mark.parametrize("route", ROUTES)
def test_the_page_only_reads(client_of: Any, sandbox: Sandbox, method: str, route: str) -> None:
    response = client_of("admin").request(method, route)
    assert response.status_code == 405
    assert KEY not in response.text
    assert sandbox.requests == []


@pytest.mark.parametrize("path", ["docs", "redoc", "openapi.json", "", "page/", "api", "static/", "static"])
def test_nothing_else_is_served(client_of: Any, path: str) -> None:
    assert client_of("admin").get(f"/aimlbilling/{path}", follow_redirects=False).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        *("..%2Fapp.py", "%2e%2e/app.py", "%2e%2e%2fapp.py", "..%5Capp.py", "x/..%2f..%2fapp.py", "..%2f__init__.py"),
        *("%2Fetc%2Fpasswd", "%2F%2Fetc%2Fpasswd", "a\0b", "x" * 5000, "%2e", "%2e%2e", "%2e%2e%2fstatic"),
    ],
)
def test_static_files_are_only_those_of_the_page(client_of: Any, path: str) -> None:
    response = client_of("admin").get(f"/aimlbilling/static/{quote(path, safe='%/')}")
    assert response.status_code == 404
    assert "import" not in response.text


def test_a_static_file_that_has_not_changed_is_not_sent_again(client_of: Any) -> None:
    client = client_of("admin")
    etag = client.get("/aimlbilling/static/index.html").headers["ETag"]
    again = client.get("/aimlbilling/static/index.html", headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")


HARD_IDS = [
    *("a/b", "a'b", 'a"b', "a/account", "../connections", "%", "a b", "ü", "a?b", "a#b", "~", "a\0b", "a\nb", "\u202e"),
    *("account", "<script>alert(1)</script>", "'; drop table connection; --", "x" * 250, "x" * 10_000, "a//b", "/"),
    *("aimlbilling_default/account", "aimlbilling_default ", "AIMLBILLING_DEFAULT\t"),
]


@pytest.mark.parametrize("connection_id", HARD_IDS)
def test_an_unknown_id_is_not_found_by_those_who_may_see_all(
    client_of: Any, sandbox: Sandbox, connection_id: str
) -> None:
    for name in ("account", "spending"):
        path = f"/aimlbilling/api/connections/{quote(connection_id, safe='')}/{name}"
        response = client_of("admin").get(path)
        assert (response.status_code, set(response.json())) == (404, {"detail"})
        if "\n" not in connection_id:  # Airflow answers itself, because that is not a path of any application
            assert response.headers["Cache-Control"] == "no-store"
        assert client_of("viewer").get(path).status_code in (403, 404)
    assert sandbox.requests == []


def test_an_id_with_a_slash_works(client_of: Any, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TEAM/A'B", sandbox.connection(timeout=2))
    client = client_of("admin")
    assert "team/a'b" in ids(client.get(CONNECTIONS))
    response = client.get(f"/aimlbilling/api/connections/{quote(chr(116) + 'eam/a' + chr(39) + 'b', safe='')}/account")
    assert (response.status_code, response.json()["connection_id"]) in ((200, "team/a'b"), (404, None))
