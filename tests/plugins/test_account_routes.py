"""The figures of accounts, as the page gets them."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hostile import MARK, TEXTS, encode, is_clean, texts_in
from support import KEY

from airflow_provider_aimlbilling.sandbox import Sandbox

API = "/aimlbilling/api/connections"
ACCOUNT = f"{API}/aimlbilling_default/account"
SPENDING = f"{API}/aimlbilling_default/spending"
# Of one reading of an account without a key limit: balance, key, auto top-up, usage by day.
REQUESTS = 4


@pytest.fixture
def client(client_of: Any, sandbox: Sandbox) -> Any:
    return client_of("admin")


def spend_daily(sandbox: Sandbox, amount: str, days: int, model: str = "openai/gpt-4o") -> None:
    """Spend an amount on each of the last days before today."""
    now = datetime.now(timezone.utc)
    for ago in range(1, days + 1):
        sandbox.spend(amount, model, at=now - timedelta(days=ago))


def test_an_account_with_everything(client: Any, sandbox: Sandbox, clock: Any) -> None:
    sandbox.set_balance("100 USD")
    spend_daily(sandbox, "1.50 USD", 10)
    sandbox.set_balance("12.60 USD")
    sandbox.low_balance_threshold = "20 USD"
    sandbox.set_auto_top_up("5 USD", "50 USD")
    sandbox.set_key_limit("200 USD", "day")
    figures = client.get(ACCOUNT).json()
    assert figures["state"] == "low"
    assert figures["state_text"] == "Low: below the account's low-balance threshold of 20.00 USD."
    assert figures["balance"] == {"usd": "12.60", "credits": "25200000", "text": "12.60 USD"}
    assert figures["low_mark"]["text"] == "20.00 USD"
    assert figures["auto_top_up"] == "on: buys 50.00 USD when the balance is below 5.00 USD"
    limit = figures["key_limit"]
    assert (limit["period"], limit["limit"]["usd"], limit["spent"]["usd"]) == ("day", "200.00", "0.00")
    assert (figures["key_limit_text"], figures["error"], figures["runway_text"]) == (None, None, None)
    assert (figures["runway"]["shortest_days"], figures["runway"]["longest_days"]) == ("8.4", "8.4")
    assert figures["runway"]["summary"].endswith("Auto top-up: enabled.")
    assert datetime.fromisoformat(figures["read_at"]) == clock.now()
    assert figures["billing_url"].startswith("https://")


def test_amounts_are_exact(client: Any, sandbox: Sandbox) -> None:
    sandbox.set_balance(9_007_199_254_740_991)
    assert client.get(ACCOUNT).json()["balance"] == {
        "usd": "4503599627.3704955",
        "credits": "9007199254740991",
        "text": "4,503,599,627.3704955 USD",
    }


def test_out_of_credits_is_a_state_and_not_an_error(client: Any, sandbox: Sandbox) -> None:
    sandbox.fail(status=403, message="You've run out of credits. Please top up your balance or update your plan.")
    figures = client.get(ACCOUNT).json()
    assert (figures["state"], figures["error"], figures["balance"]) == ("empty", None, None)
    assert figures["read_at"] is not None


def test_a_debt_is_shown_as_one(client: Any, sandbox: Sandbox) -> None:
    body = {"balance": -2_400_000, "lowBalance": True, "lowBalanceThreshold": 0, "lastUpdated": "2026-11-26T00:00:00Z"}
    texts = dict.fromkeys(("autoDebitStatus", "status", "statusExplanation"), "x")
    sandbox.fail(body=json.dumps(body | texts).encode())
    figures = client.get(ACCOUNT).json()
    assert (figures["state"], figures["error"]) == ("empty", None)
    assert figures["balance"] == {"usd": "-1.20", "credits": "-2400000", "text": "-1.20 USD"}


def test_what_cannot_be_read_is_unknown_and_says_why(client: Any, sandbox: Sandbox) -> None:
    sandbox.account.latest_key = "another-key"
    figures = client.get(ACCOUNT).json()
    assert (figures["state"], figures["error"]) == ("fine", None)
    assert figures["key_limit"] is None
    assert "described another key" in figures["key_limit_text"]
    assert figures["runway"] is None
    assert "nothing was spent" in figures["runway_text"]
    assert figures["auto_top_up"] == "off"


def test_version_2_of_the_api_has_no_low_mark(client: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(timeout=2, api_version="v2"))
    figures = client.get(ACCOUNT).json()
    assert (figures["state"], figures["low_mark"], figures["balance"]["usd"]) == ("fine", None, "2.50")


def test_an_api_that_is_down_leaves_the_last_figures_with_their_age(client: Any, sandbox: Sandbox, clock: Any) -> None:
    first = client.get(ACCOUNT).json()
    sandbox.fail(status=500, message="an outage")
    clock.seconds = 60
    later = client.get(ACCOUNT).json()
    assert "an outage" in later["error"]
    assert {**later, "error": None} == first
    assert later["read_at"] == first["read_at"]
    clock.seconds = 15 * 60 + 1
    assert client.get(ACCOUNT).json()["state"] == "unknown"
    sandbox.recover()
    clock.seconds += 60
    recovered = client.get(ACCOUNT).json()
    assert (recovered["state"], recovered["error"]) == ("fine", None)


def test_an_account_that_was_never_read_is_unknown(client: Any, sandbox: Sandbox) -> None:
    sandbox.fail(status=401)
    figures = client.get(ACCOUNT).json()
    assert (figures["state"], figures["balance"], figures["read_at"]) == ("unknown", None, None)
    assert figures["error"]
    assert client.get(SPENDING).json()["total"] is None


def test_a_changed_connection_never_shows_what_the_other_account_held(
    client: Any, sandbox: Sandbox, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get(ACCOUNT).json()["balance"]["usd"] == "2.50"
    with Sandbox("7 USD", key="another-key-123") as other:
        monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", other.connection(timeout=2))
        other.fail(status=500)
        clock.seconds = 60
        figures = client.get(ACCOUNT).json()
        assert (figures["state"], figures["balance"]) == ("unknown", None)
        other.recover()
        clock.seconds = 120
        assert client.get(ACCOUNT).json()["balance"]["usd"] == "7.00"
    monkeypatch.delenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT")
    clock.seconds = 180
    response = client.get(ACCOUNT)
    assert response.status_code == 404
    assert "no connection" in response.json()["detail"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"conn_type": "http"}, "its type is"),
        ({"host": "http://x.example"}, "plain http"),
        ({"password": ""}, "no API key"),
        ({"extra": {"timeout": -1}}, "its timeout is"),
    ],
)
def test_an_invalid_connection_says_how_to_fix_it(
    client: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], words: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WRONG", json.dumps(json.loads(sandbox.connection()) | fields))
    response = client.get(f"{API}/wrong/account")
    assert (response.status_code, response.json()["state"]) == (200, "unknown")
    assert words in response.json()["error"]
    assert KEY not in response.text
    assert sandbox.requests == []


def test_the_list_has_the_connections_of_database_and_environment(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps({"conn_type": "http"}))
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", "{")
    monkeypatch.setenv("AIRFLOW_CONN_TEXT", json.dumps({"conn_type": "aimlbilling", "description": "<b>\ud800x"}))
    stored = [
        Connection("stored", "aimlbilling", "Team A", password="stored-key"),
        Connection("other", "aimlbilling", "in the environment of another type"),
        Connection("mail", "smtp"),
    ]
    with create_session() as session:
        session.add_all(stored)
    try:
        answer = client.get(API).json()
    finally:
        with create_session() as session:
            session.query(Connection).delete()
    assert answer["refresh_seconds"] == 60
    found = {entry["connection_id"]: entry["description"] for entry in answer["connections"]}
    assert found == {"aimlbilling_default": None, "stored": "Team A", "text": "x"}


def test_the_default_connection_of_a_secrets_backend_is_listed(
    client: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow cannot list what a secrets backend has, but it can look one connection up."""
    from airflow_provider_aimlbilling.plugins.page import account_routes

    monkeypatch.setattr(account_routes, "listed_connections", dict)
    assert client.get(API).json()["connections"] == []
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", "airflow.secrets.environment_variables.EnvironmentVariablesBackend")
    assert [entry["connection_id"] for entry in client.get(API).json()["connections"]] == ["aimlbilling_default"]
    assert sandbox.requests == [], "the list asks the API nothing"


def test_a_user_without_connections_does_not_make_a_secrets_backend_work(
    client_of: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_aimlbilling.plugins.page import account_routes, reading_cache

    monkeypatch.setattr(account_routes, "listed_connections", dict)
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", "airflow.secrets.environment_variables.EnvironmentVariablesBackend")
    looked_up: list[str] = []
    read = reading_cache.read_settings
    monkeypatch.setattr(
        reading_cache, "read_settings", lambda hook: (looked_up.append(hook.aimlbilling_conn_id), read(hook))[1]
    )
    assert client_of("viewer").get(API).json()["connections"] == []
    assert looked_up == []
    assert len(client_of("admin").get(API).json()["connections"]) == 1
    assert looked_up == ["aimlbilling_default"]


def test_spending_by_day_and_model(client: Any, sandbox: Sandbox) -> None:
    sandbox.set_balance("100 USD")
    zone = ZoneInfo("Asia/Tokyo")
    now = datetime.now(timezone.utc)
    costs = {0: ("a", "0.25 USD"), 6: ("b", "1 USD"), 7: ("a", "2 USD"), 27: ("c", "0.0000005 USD"), 91: ("d", "4 USD")}
    for ago, (model, amount) in costs.items():
        sandbox.spend(amount, model, at=now - timedelta(days=ago))
    totals = {
        "7": ("1.25", ["b", "a"]),
        "28": ("3.2500005", ["a", "b", "c"]),
        "92": ("7.2500005", ["d", "a", "b", "c"]),
    }
    today = now.astimezone(zone).date()
    for days, (total, models) in totals.items():
        figures = client.get(SPENDING, params={"days": days, "tz": "Asia/Tokyo"}).json()
        assert (figures["total"]["usd"], figures["models"]) == (total, models)
        assert (figures["days"], figures["tz"], figures["error"]) == (int(days), "Asia/Tokyo", None)
        assert (figures["first_day"], figures["last_day"]) == (
            (today - timedelta(days=int(days) - 1)).isoformat(),
            today.isoformat(),
        )
        assert sum(Decimal(row["cost"]["usd"]) for row in figures["rows"]) == Decimal(total)
        assert [row["day"] for row in figures["rows"]] == sorted(row["day"] for row in figures["rows"])
        assert "may still be missing" in figures["missing_text"]
    assert len(sandbox.requests) == 1, "shorter windows are cut from the longest"


def test_thousands_of_models_are_few_in_the_response(
    client: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The sandbox takes long to add up so many charges, and longer beside other tests.
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(timeout=60))
    sandbox.set_balance("10_000 USD")
    for number in range(3000):
        sandbox.spend(f"{number + 1} credits", f"model-{number:04}")
    figures = client.get(SPENDING).json()
    assert figures["models"] == [
        "models beyond the 50 most expensive",
        *(f"model-{number:04}" for number in range(2999, 2949, -1)),
    ]
    assert len(figures["rows"]) <= 2 * 51
    assert sum(Decimal(row["cost"]["credits"]) for row in figures["rows"]) == 3000 * 3001 // 2
    assert figures["total"]["credits"] == str(3000 * 3001 // 2)


def test_nothing_spent_is_a_total_of_zero(client: Any) -> None:
    figures = client.get(SPENDING).json()
    assert (figures["total"]["usd"], figures["rows"], figures["models"]) == ("0.00", [], [])


@pytest.mark.parametrize(
    ("query", "words"),
    [
        *(
            (f"days={days}", "days must be one of 7, 28, 92")
            for days in ("1", "0", "-7", "7.0", "007", "", "x", "9" * 5000)
        ),
        *((f"tz={tz}", "is not a time zone") for tz in ("", "Mars/Base", "../etc", "Europe", "UTC%00", "a" * 5000)),
        ("tz=%3Cscript%3E", "is not a time zone"),
    ],
)
def test_a_bad_window_is_refused_in_words(client: Any, sandbox: Sandbox, query: str, words: str) -> None:
    response = client.get(f"{SPENDING}?{query}")
    assert response.status_code == 422
    assert words in response.json()["detail"]
    assert len(response.text) < 400
    assert sandbox.requests == []


def test_a_flood_of_time_zones_is_not_passed_on(client: Any, sandbox: Sandbox, clock: Any) -> None:
    zones = [f"Etc/GMT+{hours}" for hours in range(1, 13)]
    statuses = Counter(client.get(SPENDING, params={"tz": zone}).status_code for zone in zones)
    assert statuses == {200: 9, 429: 3}
    assert len(sandbox.requests) == 9
    clock.seconds = 60
    assert client.get(SPENDING, params={"tz": zones[-1]}).status_code == 200


@pytest.mark.parametrize("kind", TEXTS)
def test_no_response_has_a_key_or_text_that_a_page_must_not_show(client: Any, sandbox: Sandbox, kind: str) -> None:
    text = TEXTS[kind]
    sandbox.spend("1 USD", text)
    answers = [client.get(path).json() for path in (API, ACCOUNT, SPENDING)]
    assert answers[2]["models"]
    sandbox.fail(status=500, body=encode({"message": text, "requestId": text, "email": "a@b.example"}))
    answers += [client.get(f"{path}?tz=Asia/Tokyo").json() for path in (ACCOUNT, SPENDING)]
    texts = list(texts_in(answers))
    assert any(MARK in found for found in texts)
    assert all(is_clean(found) for found in texts)
    everything = json.dumps(answers)
    assert not [secret for secret in (KEY, "@", "user_id", "email") if secret in everything]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_no_response_has_the_owner_of_the_account(
    client: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(timeout=2, api_version=version))
    answers = "".join(client.get(path).text for path in (API, ACCOUNT, SPENDING))
    assert "/v2/billing/detail" in {request.path for request in sandbox.requests}, "it has the owner's address"
    assert not [secret for secret in (KEY, KEY[:8], "@", "user_id", "email") if secret in answers]
