"""The request log: every row of a window once, whatever happens while it is read."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from datetime import datetime, timedelta, timezone
from itertools import count, islice
from typing import Any

import pytest
from endpoints import BODIES, HOUR, NOW
from log_server import LogServer
from support import KEY

from airflow_provider_aimlbilling.client import AimlBillingClient, Settings, request_log
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError, AimlBillingUnavailable
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.sandbox import Sandbox

DAY = datetime(2026, 1, 1, tzinfo=timezone.utc)
MILLISECOND = timedelta(milliseconds=1)
BODY = BODIES["/v2/logs"]


def reader(url: str, retries: int = 0) -> AimlBillingClient:
    return AimlBillingClient(Settings(KEY, url, 5), retries=retries)


class Log:
    """
    A log that may behave in each way that the API's documentation leaves open.

    :param moments: when its rows were created, in milliseconds after ``DAY``.
    :param includes_end: whether a window includes its end.
    :param unit: what the times of a window are cut to, in milliseconds.
    :param outward: whether the end of a window is rounded up, and not cut.
    :param chance: decides the order of rows with equal times, at each request; ``None`` for a fixed order.
    """

    def __init__(
        self,
        moments: list[int],
        *,
        includes_end: bool = False,
        unit: int = 1,
        outward: bool = False,
        chance: random.Random | None = None,
    ) -> None:
        self.rows = [(moment, f"row-{number}") for number, moment in enumerate(moments)]
        self.includes_end, self.unit, self.outward, self.chance = includes_end, unit, outward, chance
        self.on_request: Callable[[], None] = lambda: None

    def add(self, moment: int) -> None:
        self.rows.append((moment, f"row-{len(self.rows)}"))

    def __call__(self, query: Mapping[str, str]) -> Any:
        start, end = (self._parse(query[name]) for name in ("start", "end"))
        end = -(-end // self.unit) * self.unit if self.outward else end // self.unit * self.unit
        # An end that is included is as long as its unit.
        end += self.unit if self.includes_end else 0
        rows = [row for row in self.rows if start // self.unit * self.unit <= row[0] < end]
        rows.sort(key=lambda row: (-row[0], self.chance.random() if self.chance else row[1]))
        offset, limit = int(query["offset"]), int(query["limit"])
        self.on_request()
        return {
            "data": [self._row(*row) for row in rows[offset : offset + limit]],
            "pagination": {"total": len(rows), "has_more": len(rows) > offset + limit},
        }

    def _parse(self, text: str) -> int:
        return (datetime.fromisoformat(text.replace("Z", "+00:00")) - DAY) // MILLISECOND

    def _row(self, moment: int, request_id: str) -> Any:
        created = (DAY + moment * MILLISECOND).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return BODY["data"][0] | {"created": created, "request_id": request_id}


def test_pages_are_newest_first_and_requested_on_demand(sandbox: Sandbox, client: AimlBillingClient) -> None:
    sandbox.set_balance("900 USD")
    for number in range(250):
        sandbox.spend(number + 1, "sandbox/chat", at=NOW - timedelta(seconds=number // 100))
    found = list(client.iter_requests(NOW - HOUR, NOW + HOUR))
    assert sorted(row.cost.credits for row in found if row.cost) == list(range(1, 251))
    assert found == sorted(found, key=lambda row: row.created, reverse=True)
    assert [request.path.split("?")[0] for request in sandbox.requests] == ["/v2/logs"] * 3
    assert len(list(islice(client.iter_requests(NOW - HOUR, NOW + HOUR), 10))) == 10
    assert len(sandbox.requests) == 4


def test_a_row_is_read_as_it_was_logged(sandbox: Sandbox, client: AimlBillingClient) -> None:
    sandbox.spend("0.25 USD", "sandbox/chat", at=NOW - HOUR, client_request_id="customer-42")
    sandbox.account.log_failure("sandbox/none", None)
    failed, row = client.iter_requests(NOW - 2 * HOUR, datetime.now(timezone.utc) + HOUR)
    assert (row.created, row.succeeded, row.model) == (
        NOW.replace(microsecond=NOW.microsecond // 1000 * 1000) - HOUR,
        True,
        "sandbox/chat",
    )
    assert (row.cost, row.input_tokens, row.client_request_id) == (Amount(500_000), 0, "customer-42")
    assert (failed.succeeded, failed.cost, failed.client_request_id) == (False, Amount(0), None)


def test_a_window_includes_its_start_and_not_its_end_to_the_microsecond(
    client: AimlBillingClient, sandbox: Sandbox
) -> None:
    for milliseconds in range(4):
        sandbox.spend(milliseconds + 1, "sandbox/chat", at=DAY + milliseconds * MILLISECOND)
    microsecond = timedelta(microseconds=1)

    def costs(start: datetime, end: datetime) -> list[Any]:
        return [row.cost.credits for row in client.iter_requests(start, end) if row.cost]

    assert costs(DAY, DAY + 3 * MILLISECOND) == [3, 2, 1]
    assert costs(DAY + microsecond, DAY + 3 * MILLISECOND + microsecond) == [4, 3, 2]
    assert costs(DAY, DAY + microsecond) == [1]
    count = len(sandbox.requests)
    assert costs(DAY, DAY) == []
    assert len(sandbox.requests) == count


CHANCE = random.Random(5)
SHAPES = {
    "empty": [],
    "all at once": [7] * 250,
    "many at a page border": [*range(300), *[150] * 250],
    "spread over the day": [CHANCE.randrange(86_400_000) for _ in range(1500)],
    "in one minute": [7_200_000 + CHANCE.randrange(60_000) for _ in range(1500)],
    "in the last second": [86_399_000 + CHANCE.randrange(1000) for _ in range(1200)] + [0],
}


@pytest.mark.parametrize("includes_end", [False, True])
@pytest.mark.parametrize("outward", [False, True])
@pytest.mark.parametrize("unit", [1, 1000, 60_000], ids=["exact", "in_seconds", "in_minutes"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_row_comes_once(
    monkeypatch: pytest.MonkeyPatch, shape: str, includes_end: bool, unit: int, outward: bool
) -> None:
    """
    Also where a window is split into parts, whether or not the API includes the end of a part, and whether it cuts or
    rounds times to whole seconds or minutes.
    """
    monkeypatch.setattr(request_log, "_MAX_PART", 300)
    moments = SHAPES[shape]
    with LogServer(Log(moments, includes_end=includes_end, unit=unit, outward=outward)) as server:
        found = [row.request_id for row in reader(server.url).iter_requests(DAY, DAY + 24 * HOUR)]
    assert Counter(found) == Counter(f"row-{number}" for number in range(len(moments)))
    assert len(server.queries) < 150


def test_a_window_that_the_api_cuts_at_its_end_lacks_no_rows() -> None:
    log = Log([0, 10_000, 59_000, 61_000, 90_000], unit=60_000)
    with LogServer(log) as server:
        rows = reader(server.url).iter_requests(DAY + timedelta(seconds=5), DAY + timedelta(seconds=62))
        found = [row.request_id for row in rows]
    assert found == ["row-3", "row-2", "row-1"]


@pytest.mark.parametrize("count", [400, 1500])
def test_an_api_that_ignores_the_window_is_an_error_and_not_endless(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(request_log, "_MAX_PART", 300)
    monkeypatch.setattr(request_log, "_MAX_MINUTE", 1000)
    log = Log([CHANCE.randrange(86_400_000) for _ in range(count)], unit=365 * 86_400_000, outward=True)
    with LogServer(log) as server, pytest.raises(AimlBillingContractError, match="cannot be read in parts"):
        list(reader(server.url).iter_requests(DAY, DAY + 24 * HOUR))
    assert len(server.queries) < 30


@pytest.mark.parametrize("seed", range(6))
def test_rows_that_land_while_the_log_is_read_hide_no_others(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(request_log, "_MAX_PART", 300)
    chance = random.Random(seed)
    latest = chance.choice([1_000, 60_000, 86_400_000])
    log = Log([chance.randrange(latest) for _ in range(900)], includes_end=bool(seed % 2))
    at_first = {row for _, row in log.rows}

    def land() -> None:
        for _ in range(chance.choice([0, 0, 1, 3, 120])):
            log.add(chance.randrange(latest))

    with LogServer(log) as server:
        log.on_request = land if seed < 4 else lambda: log.add(latest - 1)
        found = Counter(row.request_id for row in reader(server.url).iter_requests(DAY, DAY + 24 * HOUR))
    assert set(found.values()) == {1}
    assert at_first <= set(found)


def test_a_row_that_lands_in_the_part_that_is_read_is_found() -> None:
    log = Log(list(range(250)))
    with LogServer(log) as server:
        rows = reader(server.url).iter_requests(DAY, DAY + HOUR)
        first = [next(rows).request_id for _ in range(50)]
        for moment in (10, 249, 249, 1000):
            log.add(moment)
        found = first + [row.request_id for row in rows]
    assert sorted(found) == sorted(row for _, row in log.rows)


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_one_moment_may_change_places(seed: int) -> None:
    log = Log([5] * 120 + list(range(100)), chance=random.Random(seed))
    with LogServer(log) as server:
        found = [row.request_id for row in reader(server.url).iter_requests(DAY, DAY + HOUR)]
    assert sorted(found) == sorted(row for _, row in log.rows)


@pytest.mark.parametrize("count", [20, 250])
def test_rows_that_are_counted_but_never_sent_are_an_error(count: int) -> None:
    log = Log(list(range(count)))

    def incomplete(query: Mapping[str, str]) -> Any:
        answer = log(query)
        return answer | {"data": [row for row in answer["data"] if row["request_id"] != "row-7"]}

    with (
        LogServer(incomplete) as server,
        pytest.raises(AimlBillingUnavailable, match=r"different ones\. Read it again"),
    ):
        list(reader(server.url).iter_requests(DAY, DAY + HOUR))


def test_a_server_that_never_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(10**9))

    def endless(query: Mapping[str, str]) -> Any:
        rows = [BODY["data"][0] | {"request_id": f"row-{next(numbers)}"} for _ in range(100)]
        return {"data": rows, "pagination": {"total": 300, "has_more": True}}

    with LogServer(endless) as server, pytest.raises(AimlBillingUnavailable):
        list(reader(server.url).iter_requests(DAY, DAY + HOUR))
    assert len(server.queries) < 30


def test_a_429_in_the_middle_waits_and_resumes_where_it_was(
    sandbox: Sandbox, client: AimlBillingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "RATE_LIMIT_PAUSES", (0.01, 0.02, 0.03))
    for number in range(250):
        sandbox.spend(1, "sandbox/chat", at=NOW - number * MILLISECOND)
    rows = client.iter_requests(NOW - HOUR, NOW + HOUR)
    found = [next(rows).request_id for _ in range(100)]
    sandbox.fail(status=429, times=3)
    found += [row.request_id for row in rows]
    assert len(set(found)) == len(found) == 250
    offsets = [request.path.rpartition("=")[2] for request in sandbox.requests]
    assert offsets == ["0", "100", "100", "100", "100", "200"]


@pytest.mark.parametrize(("fault", "requests"), [({}, 4), ({"retry_after": 3600}, 1)])
def test_a_429_that_lasts_is_an_error(
    sandbox: Sandbox, client: AimlBillingClient, monkeypatch: pytest.MonkeyPatch, fault: Any, requests: int
) -> None:
    monkeypatch.setattr(request_log, "RATE_LIMIT_PAUSES", (0.01, 0.02, 0.03))
    sandbox.fail(status=429, **fault)
    with pytest.raises(AimlBillingUnavailable) as caught:
        list(client.iter_requests(NOW - HOUR, NOW))
    assert (caught.value.status, len(sandbox.requests)) == (429, requests)


def test_a_retry_after_that_fits_into_the_total_is_honoured(
    sandbox: Sandbox, client: AimlBillingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "RATE_LIMIT_PAUSES", (0.5, 0.8))
    sandbox.fail(status=429, retry_after=1, times=1)
    assert list(client.iter_requests(NOW - HOUR, NOW)) == []
    first, second = sandbox.requests
    assert second.at - first.at >= 1


def test_a_failing_page_is_retried(sandbox: Sandbox) -> None:
    sandbox.spend(1, "sandbox/chat", at=NOW - HOUR)
    sandbox.fail(status=503, times=1)
    assert len(list(reader(sandbox.url, retries=1).iter_requests(NOW - 2 * HOUR, NOW))) == 1


def test_requests_stay_within_the_rate_limit(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_log, "MAX_REQUESTS", 4)
    monkeypatch.setattr(request_log, "REQUESTS_SECONDS", 1.0)
    client = reader(sandbox.url)
    for _ in range(5):
        list(client.iter_requests(NOW - HOUR, NOW))
        list(client.iter_requests(NOW - HOUR, NOW))
    times = [request.at for request in sandbox.requests]
    assert len(times) == 10
    # Measured where requests arrive. On a busy machine that is later than where they are sent, and by varying times.
    assert all(later - earlier > 0.5 for earlier, later in zip(times, times[4:], strict=False))


def test_a_window_longer_than_the_api_accepts_is_read_in_parts(sandbox: Sandbox, client: AimlBillingClient) -> None:
    moments = [NOW - timedelta(days=days) for days in (1, 92, 93, 150, 184, 199)]
    for moment in moments:
        sandbox.spend(1, "sandbox/chat", at=moment)
    found = list(client.iter_requests(NOW - timedelta(days=200), NOW))
    assert len({row.request_id for row in found}) == len(found) == 6
    assert len(sandbox.requests) == 3


def test_the_log_of_another_key_is_read_with_its_prefix(sandbox: Sandbox) -> None:
    client = AimlBillingClient(Settings(sandbox.account.management_key, sandbox.url, 5), retries=0)
    list(client.iter_requests(NOW - HOUR, NOW, key_prefix="abcd1234"))
    assert "key_prefix=abcd1234" in sandbox.requests[0].path


@pytest.mark.parametrize(("start", "end"), [(datetime(2026, 1, 1), NOW), (NOW, NOW - HOUR)])  # noqa: DTZ001
def test_an_invalid_window_fails_before_any_request(
    sandbox: Sandbox, client: AimlBillingClient, start: datetime, end: datetime
) -> None:
    with pytest.raises(ValueError, match=r"time zone|before its start"):
        client.iter_requests(start, end)
    assert not sandbox.requests


def read_one(sandbox: Sandbox, client: AimlBillingClient, change: Mapping[str, Any], *missing: str) -> Any:
    body = deepcopy(BODY)
    row = body["data"][0] = body["data"][0] | change
    for name in missing:
        del row[name]
    sandbox.fail(body=json.dumps(body).encode())
    (found,) = client.iter_requests(DAY, DAY + HOUR)
    return found


@pytest.mark.parametrize(
    ("cost", "credits"),
    [
        ({"usd": 0.25, "credits": 500_000}, 500_000),
        ({"usd": 0.25}, 500_000),
        ({"credits": 500_000}, 500_000),
        ({"usd": 0, "credits": 0}, 0),
        ({"usd": 0.0000001, "credits": 0}, Amount.parse("0.2 credits").credits),
        ({"usd": 0.1 + 0.2, "credits": 600_000}, 600_000),
        ({"usd": 0.25, "credits": 1}, None),
        ({"usd": "0.25", "credits": None}, None),
        ({"usd": -0.25, "credits": True}, None),
        ({"usd": float("nan"), "credits": 1e300}, None),
        ({}, None),
        (None, None),
        (0.25, None),
    ],
)
def test_a_cost_is_exact_or_unknown(sandbox: Sandbox, client: AimlBillingClient, cost: Any, credits: Any) -> None:
    found = read_one(sandbox, client, {"cost": cost}).cost
    assert found == (None if credits is None else Amount(credits))


def test_a_row_without_a_cost_is_a_gap_and_not_zero(sandbox: Sandbox, client: AimlBillingClient) -> None:
    assert read_one(sandbox, client, {}, "cost").cost is None


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ({"status": "succeeded"}, "succeeded", True),
        ({"status": "failed"}, "succeeded", False),
        ({"status": "cancelled"}, "succeeded", None),
        ({"status": None}, "succeeded", None),
        ({"status": ["succeeded"]}, "succeeded", None),
        ({"tokens": {"input": 3}}, "input_tokens", 3),
        ({"tokens": {"input": 3}}, "output_tokens", None),
        ({"tokens": {"input": -1, "output": 2.5}}, "input_tokens", None),
        ({"tokens": {"input": True, "output": 2.5}}, "output_tokens", None),
        ({"tokens": []}, "input_tokens", None),
        ({"client_request_id": 7}, "client_request_id", None),
        ({"client_request_id": ""}, "client_request_id", None),
        ({"model": None}, "model", ""),
        ({"request_id": None, "inference_id": "inf-1"}, "request_id", "inf-1"),
        ({"cached": {"tokens": 3}, "client_request": 1}, "request_id", "req-1"),
    ],
)
def test_a_row_says_what_is_known(
    sandbox: Sandbox, client: AimlBillingClient, change: Any, name: str, value: Any
) -> None:
    assert getattr(read_one(sandbox, client, change), name) == value


@pytest.mark.parametrize("name", ["request_id", "created"])
def test_a_row_without_id_or_time_is_an_error_that_names_the_field(
    sandbox: Sandbox, client: AimlBillingClient, name: str
) -> None:
    with pytest.raises(AimlBillingContractError, match=f"'{name}'"):
        read_one(sandbox, client, {}, name)
    with pytest.raises(AimlBillingContractError, match=f"'{name}'"):
        read_one(sandbox, client, {name: None})


def numbered_rows(numbers: Iterable[int]) -> list[Any]:
    created = "2026-01-01T00:00:01.000Z"
    return [BODY["data"][0] | {"request_id": f"row-{number}", "created": created} for number in numbers]


def test_a_total_that_shrinks_loses_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica of the API that is behind may answer for the second page."""
    monkeypatch.setattr(request_log, "REREAD_PAUSES", (0.0,))

    def reply(query: Mapping[str, str]) -> Any:
        first = query["offset"] == "0"
        pagination = {"total": 150 if first else 100, "has_more": first}
        return {"data": numbered_rows(range(100 if first else 0)), "pagination": pagination}

    with LogServer(reply) as server, pytest.raises(AimlBillingUnavailable, match="counts 150 rows"):
        list(reader(server.url).iter_requests(DAY, DAY + HOUR))


def test_a_log_that_grows_as_quickly_as_it_is_read_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_log, "REREAD_PAUSES", ())
    numbers = count()

    def reply(query: Mapping[str, str]) -> Any:
        pagination = {"total": int(query["offset"]) + 150, "has_more": True}
        return {"data": numbered_rows(islice(numbers, 100)), "pagination": pagination}

    with LogServer(reply) as server, pytest.raises(AimlBillingUnavailable, match="Read it again later"):
        list(reader(server.url).iter_requests(DAY, DAY + HOUR))
    assert next(numbers) < 3_000
