"""Key, auto top-up, ledger and usage, asked of the sandbox over a socket; its answers held to what is documented."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from conftest import KEY
from shapes import SHAPES, misfits

from airflow_provider_aimlbilling import account
from airflow_provider_aimlbilling.balance import Amount, TopUp
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingAuthError,
    AimlBillingContractError,
    AimlBillingError,
    AimlBillingKeyDisabledError,
    AimlBillingUnavailable,
)
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.sandbox import Sandbox

NOW = datetime.now(timezone.utc)
HOUR = timedelta(hours=1)


@pytest.fixture
def hook(sandbox: Sandbox) -> AimlBillingHook:
    return AimlBillingHook(retries=0)


def ask(sandbox: Sandbox, path: str, key: str = KEY, **query: str) -> requests.Response:
    return requests.get(sandbox.url + path, params=query, headers={"Authorization": f"Bearer {key}"}, timeout=5)


@pytest.mark.parametrize("path", [path for path in SHAPES if path != "error"])
def test_the_sandbox_answers_in_the_documented_shapes(sandbox: Sandbox, path: str) -> None:
    sandbox.spend("0.30 USD", "sandbox/chat")
    sandbox.set_auto_top_up("1 USD", "10 USD")
    limits = [None, "5 USD"] if path == "/v1/key" else [None]
    queries: list[dict[str, str]] = [{}]
    if path.startswith("/v2/usage"):
        queries = [{"period": "24h"}]
    if path == "/v2/usage/detail":
        queries += [
            {"period": "7d", "group_by": group, "tz": "Europe/Berlin"} for group in ("day", "model", "day,model")
        ]
    if path == "/v1/models":
        queries += [{"include": "pricing"}, {"include": "capabilities,pricing", "id": "chat"}]
    if path == "/v2/billing/transactions":
        queries += [{"limit": "1"}]
    for limit in limits:
        sandbox.set_key_limit(limit)
        for query in queries:
            answer = ask(sandbox, path, **query)
            assert answer.status_code == 200, answer.text
            body = json.loads(answer.content, parse_int=Decimal, parse_float=Decimal)
            assert misfits(body, SHAPES[path]) == []


def test_the_sandbox_s_refusals_have_the_documented_shape(sandbox: Sandbox) -> None:
    manager = sandbox.account.management_key
    for path, key, status in (
        ("/v2/usage", KEY, 400),
        ("/v2/billing", "x", 401),
        ("/v2/billing", manager, 403),
        ("/x", KEY, 404),
    ):
        answer = ask(sandbox, path, key)
        assert answer.status_code == status
        assert misfits(answer.json(), SHAPES["error"]) == []


def test_the_record_of_shapes_can_be_missed() -> None:
    good = {"current_balance": Decimal(1), "currency": "USD"}
    shape = SHAPES["/v2/billing"]
    assert misfits(good, shape) == []
    for bad in (
        {**good, "currency": "EUR"},
        {**good, "current_balance": None},
        {"currency": "USD"},
        {**good, "x": "y"},
    ):
        assert misfits(bad, shape)


def test_each_entry_of_a_long_ledger_comes_once_and_newest_first(sandbox: Sandbox, hook: AimlBillingHook) -> None:
    sandbox.set_balance("900 USD")
    for number in range(250):
        sandbox.spend(number + 1, f"model-{number % 3}", at=NOW - timedelta(minutes=number // 100))
    found = list(hook.iter_transactions(type="MODEL_USAGE"))
    assert sorted(entry.credits for entry in found) == list(range(1, 251))
    assert found == sorted(found, key=lambda entry: entry.created_at, reverse=True)
    assert [request.path.split("?")[0] for request in sandbox.requests] == ["/v2/billing/transactions"] * 3
    assert len(list(islice(hook.iter_transactions(), 10))) == 10
    assert len(sandbox.requests) == 4, "a page is asked for when it is needed"


def test_the_ledger_is_exact_and_filtered(sandbox: Sandbox, hook: AimlBillingHook) -> None:
    sandbox.top_up("0.0000005 USD", at=NOW - 2 * HOUR)
    sandbox.spend(3, "sandbox/chat", at=NOW - HOUR)
    entry, payment = list(hook.iter_transactions(start=NOW - 3 * HOUR, end=NOW))
    assert (entry.direction, entry.type, entry.credits, entry.usd) == ("CHARGE", "MODEL_USAGE", 3, Decimal("0.0000015"))
    assert (payment.direction, payment.type, payment.credits, payment.model) == ("TOPUP", "PAYMENT", 1, None)
    assert [e.credits for e in hook.iter_transactions(start=NOW - 3 * HOUR, end=NOW - HOUR)] == [1]
    assert [e.credits for e in hook.iter_transactions(start=NOW - 3 * HOUR, direction="CHARGE")] == [3]


@pytest.mark.parametrize(
    "arguments",
    [{"direction": "IN"}, {"type": "GIFT"}, {"start": datetime(2026, 1, 1)}],  # noqa: DTZ001 - the mistake
)
def test_mistakes_in_a_question_are_told_before_it_is_asked(
    sandbox: Sandbox, hook: AimlBillingHook, arguments: Any
) -> None:
    with pytest.raises(ValueError, match=r"one of|time zone"):
        hook.iter_transactions(**arguments)
    assert not sandbox.requests


def test_a_cursor_must_come_back_unchanged(sandbox: Sandbox) -> None:
    sandbox.spend(1)
    cursor = ask(sandbox, "/v2/billing/transactions", limit="1").json()["pagination"]["next_cursor"]
    assert ask(sandbox, "/v2/billing/transactions", limit="1", cursor=cursor).status_code == 200
    for other in (cursor + "=", cursor[:-1], cursor.swapcase(), "nonsense", ""):
        assert ask(sandbox, "/v2/billing/transactions", cursor=other).status_code in (400, 200 if not other else 400)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v2/billing/transactions", {"limit": "101"}),
        ("/v2/billing/transactions", {"limit": "0"}),
        ("/v2/billing/transactions", {"type": "GIFT"}),
        ("/v2/billing/transactions", {"from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}),
        ("/v2/usage", {}),
        ("/v2/usage", {"period": "24h", "start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}),
        ("/v2/usage", {"period": "1w"}),
        ("/v2/usage", {"start": "2026-01-01T00:00:00Z"}),
        ("/v2/usage", {"start": "2026-01-01T00:00:00Z", "end": "2026-06-01T00:00:00Z"}),
        ("/v2/usage", {"period": "24h", "group_by": "day"}),
        ("/v2/usage/detail", {"period": "24h", "group_by": "hour"}),
        ("/v2/usage/detail", {"period": "24h", "group_by": "day", "tz": "utc"}),
        ("/v2/usage/detail", {"period": "24h", "group_by": "day", "tz": "+05:00"}),
    ],
)
def test_the_sandbox_refuses_what_the_api_refuses(sandbox: Sandbox, path: str, query: dict[str, str]) -> None:
    assert ask(sandbox, path, **query).status_code == 400


def test_keys_of_the_wrong_kind_are_refused(sandbox: Sandbox) -> None:
    manager = sandbox.account.management_key
    for path in ("/v1/billing/balance", "/v2/billing", "/v2/billing/detail", "/v2/billing/transactions"):
        assert ask(sandbox, path, manager).status_code == 403
        assert ask(sandbox, path, "another").status_code == 401
    assert ask(sandbox, "/v2/usage", manager, period="24h", key_prefix="abcd1234").status_code == 200
    assert ask(sandbox, "/v2/usage", period="24h", key_prefix="abcd1234").status_code == 403
    assert ask(sandbox, "/v2/usage", period="24h", key_prefix=KEY[:8]).status_code == 200


def test_a_management_key_is_an_error_that_names_the_right_kind(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = json.loads(sandbox.connection()) | {"password": sandbox.account.management_key}
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", json.dumps(fields))
    with pytest.raises(AimlBillingAuthError, match="regular key"):
        list(AimlBillingHook(retries=0).iter_transactions())


def test_usage_is_reported_by_model(sandbox: Sandbox, hook: AimlBillingHook) -> None:
    sandbox.set_balance("50 USD")
    for sum_, model in (("1.10 USD", "a"), ("0.20 USD", "b"), ("2.20 USD", "b"), ("0.7 USD", None)):
        sandbox.spend(sum_, model, at=NOW - HOUR)
    sandbox.spend("9 USD", "a", at=NOW - 30 * HOUR)
    usage = hook.get_usage(start=NOW - 2 * HOUR, end=NOW)
    assert usage.total == account.Spend(Amount.parse("4.20 USD"), 4)
    assert {name: spend.amount.usd for name, spend in usage.models.items()} == {
        "a": Decimal("1.1"),
        "b": Decimal("2.4"),
        "unknown": Decimal("0.7"),
    }
    assert hook.get_usage(start=NOW - 2 * HOUR, end=NOW, by_model=False).models == {}
    grouped = hook.get_usage(start=NOW - 40 * HOUR, end=NOW, group_by="day,model", tz="Europe/Berlin").groups
    assert sum(group["spend"] for group in grouped) == Decimal("13.2")


def test_more_than_92_days_are_asked_for_in_parts(sandbox: Sandbox, hook: AimlBillingHook) -> None:
    sandbox.set_balance("50 USD")
    for days in (1, 91.99, 92.01, 150, 299):
        sandbox.spend("1 USD", "a", at=NOW - timedelta(days=days))
    usage = hook.get_usage(start=NOW - timedelta(days=300), end=NOW)
    assert (usage.total.requests, usage.models["a"].amount.usd) == (5, 5)
    assert len(sandbox.requests) == 4
    assert usage.end - usage.start == timedelta(days=300)


def test_a_usage_is_asked_for_as_it_was_told(sandbox: Sandbox, hook: AimlBillingHook) -> None:
    hook.get_usage(start=NOW - HOUR, end=NOW, group_by="day", tz="Asia/Tokyo", key_prefix=KEY[:8])
    query = parse_qs(urlsplit(sandbox.requests[0].path).query)
    assert {"group_by": ["day"], "tz": ["Asia/Tokyo"], "key_prefix": [KEY[:8]]}.items() <= query.items()


def test_a_long_usage_by_day_and_model_is_read(sandbox: Sandbox, hook: AimlBillingHook) -> None:
    """Three months of a hundred models are more than a megabyte."""
    group = {"day": "2026-11-01", "model": "m" * 40, "spend": 1, "tokens": {"input": 1, "output": 1, "total": 2}}
    group |= {"requests": {"total": 1, "charged": 1, "succeeded": 1, "failed": 0}}
    sandbox.fail(body=json.dumps(BODIES["/v2/usage"] | {"groups": [group] * 9200}).encode())
    assert len(hook.get_usage(start=NOW - HOUR, end=NOW, group_by="day,model").groups) == 9200


@pytest.mark.parametrize("length", [timedelta(0), timedelta(microseconds=999), -HOUR])
def test_a_ledger_of_no_time_is_refused_before_it_is_asked_for(
    sandbox: Sandbox, hook: AimlBillingHook, length: timedelta
) -> None:
    with pytest.raises(ValueError, match="before its start, or at it"):
        hook.iter_transactions(start=NOW, end=NOW + length)
    assert not sandbox.requests


def test_a_time_beyond_all_sense_is_a_broken_promise(sandbox: Sandbox, hook: AimlBillingHook) -> None:
    sandbox.fail(body=json.dumps(BODIES["/v2/usage"] | {"start": "0001-01-01T00:00:00+05:00"}).encode())
    with pytest.raises(AimlBillingContractError, match="a time"):
        hook.get_usage(start=NOW - HOUR, end=NOW)


def test_the_time_of_a_usage_must_go_forward(hook: AimlBillingHook) -> None:
    with pytest.raises(ValueError, match="before its start"):
        hook.get_usage(start=NOW, end=NOW - HOUR)
    with pytest.raises(ValueError, match="time zone"):
        hook.get_usage(start=datetime(2026, 1, 1), end=NOW)  # noqa: DTZ001 - the mistake


def test_personal_data_is_not_even_read(sandbox: Sandbox, hook: AimlBillingHook) -> None:
    sandbox.set_auto_top_up("5 USD", "20 USD")
    top_up = hook.get_top_up()
    assert top_up == TopUp(True, 10_000_000, 40_000_000)
    sandbox.account.auto_top_up = None
    assert hook.get_top_up() == TopUp(is_enabled=False)
    sandbox.fail(
        body=b'{"email": "user@example.com", "user_id": 111, "autotopup_settings": {"is_enabled": "user@example.com"}}'
    )
    with pytest.raises(AimlBillingContractError) as caught:
        hook.get_top_up()
    assert "user@example.com" not in str(caught.value)


PERIODS = {
    "day": (datetime(2026, 11, 25, 13, 5, tzinfo=timezone.utc), datetime(2026, 11, 25, tzinfo=timezone.utc)),
    "week": (datetime(2026, 11, 25, 13, 5, tzinfo=timezone.utc), datetime(2026, 11, 23, tzinfo=timezone.utc)),
    "month": (datetime(2026, 11, 25, 13, 5, tzinfo=timezone.utc), datetime(2026, 11, 1, tzinfo=timezone.utc)),
    "no_reset": (datetime(2026, 11, 25, 13, 5, tzinfo=timezone.utc), datetime(2026, 2, 3, tzinfo=timezone.utc)),
}


@pytest.mark.parametrize("retention", PERIODS)
def test_periods_of_a_limit_begin_at_midnight_utc(retention: str) -> None:
    now, start = PERIODS[retention]
    made = datetime(2026, 2, 3, tzinfo=timezone.utc)
    key = account.Key(prefix="abcd1234", disabled=False, retention=retention, limit=1, created_at=made)
    assert account.period_start(key, now) == start


@pytest.mark.parametrize("period", ["day", "week", "month", "no_reset"])
def test_a_key_limit_counts_what_was_spent_in_its_period(sandbox: Sandbox, hook: AimlBillingHook, period: str) -> None:
    sandbox.set_balance("50 USD")
    sandbox.set_key_limit("5 USD", period)
    sandbox.spend("1.5 USD", "a")
    sandbox.spend("7 USD", "a", at=sandbox.account.key_made - HOUR)
    limit = hook.get_key_limit()
    assert limit is not None
    assert (limit.period, limit.limit, limit.remaining) == (period, 10_000_000, Amount.parse("3.5 USD"))
    sandbox.spend("30 USD", "a")
    overspent = hook.get_key_limit()
    assert overspent is not None
    assert overspent.remaining == Amount(0), "charges land late, so more than the limit may be spent"


def test_a_key_without_a_limit_has_none(sandbox: Sandbox, hook: AimlBillingHook) -> None:
    assert hook.get_key_limit() is None
    assert [request.path for request in sandbox.requests] == ["/v1/key"]


def test_what_is_told_of_another_key_is_not_believed(sandbox: Sandbox, hook: AimlBillingHook) -> None:
    sandbox.account.latest_key = "0therKey-xyz"
    with pytest.raises(AimlBillingUnavailable, match="another key"):
        hook.get_key_limit()


def test_a_disabled_key_is_an_error_of_its_own(sandbox: Sandbox, hook: AimlBillingHook) -> None:
    sandbox.account.key_disabled = True
    with pytest.raises(AimlBillingKeyDisabledError, match="switched off"):
        hook.get_balance(respect_key_limit=True)
    assert hook.get_balance().balance == 5_000_000, "who does not ask is not told"


def test_how_much_of_a_busy_ledger_is_read_has_an_end(sandbox: Sandbox, hook: AimlBillingHook) -> None:
    sandbox.set_auto_top_up("5 USD", "20 USD", payments_work=False)
    for _ in range(1000):
        sandbox.spend(1)
    top_up = hook.get_balance(top_up_grace=3600).top_up
    assert top_up is not None
    assert top_up.stuck_for is None, "an account that is used that much is not known to be stuck"
    assert len(sandbox.requests) == 6, "balance, settings, and four pages"


def test_a_fault_of_the_top_up_does_not_hide_the_balance(
    sandbox: Sandbox, hook: AimlBillingHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: str, query: Any, key: str, answer: Any = sandbox.account.answer) -> Any:
        if path == "/v2/billing/detail":
            raise PermissionError
        return answer(path, query, key)

    monkeypatch.setattr(sandbox.account, "answer", broken)
    balance = hook.get_balance(top_up_grace=3600)
    assert (balance.balance, balance.top_up) == (5_000_000, None)


def test_sums_of_binary_floats_are_taken_as_they_are(sandbox: Sandbox, hook: AimlBillingHook) -> None:
    body = dict(BODIES["/v2/usage"]) | {"spend": 0.00001 + 0.00002}
    sandbox.fail(body=json.dumps(body).encode())
    assert hook.get_usage(start=NOW - HOUR, end=NOW).total.amount.usd == Decimal("0.000030000000000000004")


def entry(type: str, credits: int) -> account.Transaction:
    direction = "CHARGE" if type == "MODEL_USAGE" else "TOPUP"
    return account.Transaction(NOW, direction, type, credits, Decimal(0), None, None)


@pytest.mark.parametrize(
    ("newest_first", "below"),
    [
        ([], True),
        ([entry("MODEL_USAGE", 10)], True),
        ([entry("MODEL_USAGE", 95)], True),
        ([entry("MODEL_USAGE", 96)], False),
        ([entry("PAYMENT", 1)], False),
        ([entry("INIT", 1)], False),
        ([entry("MODEL_USAGE", 1), entry("PAYMENT", 1)], False),
        ([entry("BONUS", 3), entry("MODEL_USAGE", 95)], True),
        ([entry("BONUS", 3), entry("MODEL_USAGE", 99)], False),
    ],
)
def test_a_balance_below_its_mark_all_along(newest_first: list[account.Transaction], below: bool) -> None:
    """The account holds 4 and the mark is 100: what it held before follows from the ledger."""
    assert account.below_all_along(4, 100, newest_first) is below


def test_no_more_of_the_ledger_is_read_than_it_takes() -> None:
    def ledger() -> Any:
        yield entry("PAYMENT", 1)
        raise AssertionError("read on")

    assert not account.below_all_along(4, 100, ledger())


BODIES = {
    "/v1/key": {"data": {"prefix": KEY[:8], "disabled": False, "limit": None, "created_at": "2026-01-01T00:00:00Z"}},
    "/v2/billing/detail": {"autotopup_settings": {"is_enabled": True, "threshold": 5, "amount": 20, "currency": "USD"}},
    "/v2/billing/transactions": {
        "data": [
            {
                "created_at": "2026-01-01T00:00:00.000Z",
                "direction": "CHARGE",
                "type": "MODEL_USAGE",
                "amount": {"usd": 0.5, "credits": 1_000_000},
                "model": None,
                "reference_id": None,
            }
        ],
        "pagination": {"next_cursor": None, "has_more": False},
    },
    "/v2/usage": {
        "start": "2026-01-01T00:00:00Z",
        "end": "2026-01-02T00:00:00Z",
        "spend": 1.5,
        "currency": "USD",
        "requests": 3,
        "models": [{"model": "a", "spend": 1.5, "requests": 3}],
    },
}
CALLS: dict[str, Any] = {
    "/v1/key": lambda hook: hook.get_key_limit(),
    "/v2/billing/detail": lambda hook: hook.get_top_up(),
    "/v2/billing/transactions": lambda hook: list(hook.iter_transactions()),
    "/v2/usage": lambda hook: hook.get_usage(start=NOW - HOUR, end=NOW),
}


def broken_bodies() -> list[Any]:
    """Each field of each answer, left out and as each kind that it must not be."""
    cases = []

    def paths(value: Any, path: tuple[Any, ...] = ()) -> Any:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for name, part in items:
            yield (*path, name)
            yield from paths(part, (*path, name))

    nullable = {"limit", "model", "reference_id", "next_cursor"}
    for call, good in BODIES.items():
        for path in paths(good):
            for bad in ("left out", None, True, "x", -1, float("nan"), [], {"a": 1}):
                body = json.loads(json.dumps(good))
                holder: Any = body
                for step in path[:-1]:
                    holder = holder[step]
                name, was = path[-1], holder[path[-1]]
                if bad == "left out":
                    if isinstance(holder, list) or name in ("limit", "models"):
                        continue
                    del holder[name]
                elif (
                    (bad is None and name in nullable)
                    or (isinstance(bad, str) and isinstance(was, str) and name in ("model", "prefix"))
                    or (bad == "x" and name in nullable - {"limit", "next_cursor"})
                    or (bad == [] and isinstance(was, list))
                    or (bad is True and isinstance(was, bool))
                ):
                    continue
                else:
                    holder[name] = bad
                cases.append(pytest.param(call, body, id=f"{call} {'.'.join(map(str, path))} {bad}"))
    return cases


@pytest.mark.parametrize(("call", "body"), broken_bodies())
def test_an_answer_that_breaks_its_promise_gives_no_figure(
    sandbox: Sandbox, hook: AimlBillingHook, call: str, body: Any
) -> None:
    sandbox.fail(body=json.dumps(body).encode())
    with pytest.raises(AimlBillingError) as caught:
        CALLS[call](hook)
    assert isinstance(caught.value, AimlBillingContractError | AimlBillingUnavailable | AimlBillingKeyDisabledError)


@pytest.mark.parametrize("call", CALLS)
def test_faults_mean_what_they_mean_for_the_balance(sandbox: Sandbox, hook: AimlBillingHook, call: str) -> None:
    for fault, kind in (({"status": 401}, AimlBillingAuthError), ({"status": 503}, AimlBillingUnavailable)):
        sandbox.fail(**fault)
        with pytest.raises(kind) as caught:
            CALLS[call](hook)
        assert KEY not in str(caught.value)


def test_a_ledger_that_runs_in_a_circle_ends(sandbox: Sandbox, hook: AimlBillingHook) -> None:
    body = BODIES["/v2/billing/transactions"] | {"pagination": {"next_cursor": "same", "has_more": True}}
    sandbox.fail(body=json.dumps(body).encode())
    with pytest.raises(AimlBillingContractError, match="cursor"):
        list(hook.iter_transactions())


def test_nothing_but_the_balance_goes_to_the_host_that_has_only_that() -> None:
    from airflow_provider_aimlbilling.connection import Settings

    vendor = Settings("c", "k", "https://billing.aimlapi.com", 1, "v1")
    assert vendor.url_of("/v1/key") == "https://api.aimlapi.com/v1/key"
    assert vendor.url == "https://billing.aimlapi.com/v1/billing/balance"
    other = Settings("c", "k", "https://gateway.example", 1, "v1")
    assert other.url_of("/v1/key") == "https://gateway.example/v1/key"
