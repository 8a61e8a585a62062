"""An API whose clock is ahead or behind: nothing of the last minutes is missing, even if it refuses the future."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from endpoints import BODIES
from log_server import LogServer
from raw_server import BALANCE
from support import KEY

from airflow_provider_aimlbilling.client import AimlBillingClient, Settings
from airflow_provider_aimlbilling.client.api_clock import ApiClock
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.waiting.run_window import RunWindow

NOW = datetime(2026, 11, 26, 13, 30, 0, 500_000, timezone.utc)


class SkewedApi:
    """
    An API that has logged one request just now, and another two seconds ago, by its own clock.

    :param ahead: by how many seconds its clock is ahead.
    :param refuses_future: whether it refuses windows that end in its future; otherwise it accepts them.
    """

    def __init__(self, ahead: float, *, refuses_future: bool) -> None:
        self.ahead, self.refuses_future = timedelta(seconds=ahead), refuses_future
        self.charged = [self.now(), self.now() - timedelta(seconds=2)]
        self.start = min(*self.charged, datetime.now(timezone.utc)) - timedelta(minutes=1)

    def now(self) -> datetime:
        return datetime.now(timezone.utc) + self.ahead

    def __call__(self, query: Mapping[str, str]) -> Any:
        if not query:
            return BALANCE
        start, end = (datetime.fromisoformat(query[name].replace("Z", "+00:00")) for name in ("start", "end"))
        if end < start or (self.refuses_future and end > self.now()):
            return 400
        found = [moment for moment in self.charged if start <= moment < end]
        if "limit" not in query:
            return {
                **{name: query[name] for name in ("start", "end")},
                "currency": "USD",
                "spend": len(found),
                "requests": len(found),
            }
        rows = [
            BODIES["/v2/logs"]["data"][0] | {"created": moment.isoformat(), "request_id": moment.isoformat()}
            for moment in found
        ]
        return {"data": rows, "pagination": {"total": len(rows), "has_more": False}}


CLOCKS = [-3000, -240, -0.5, 0, 0.5, 240, 3000]


@pytest.mark.parametrize("ahead", CLOCKS)
def test_the_newest_rows_of_a_run_are_read(ahead: float) -> None:
    api = SkewedApi(ahead, refuses_future=False)
    with LogServer(api, ahead=ahead) as server:
        client = AimlBillingClient(Settings(KEY, server.url, 5), retries=0)
        cost = RunWindow("d", "r", api.start).read(client, datetime.now(timezone.utc).timestamp())
        assert cost.unattributed.requests == 2
        assert len(server.queries) == (2 if ahead == 3000 else 1)


@pytest.mark.parametrize("ahead", CLOCKS)
def test_an_api_that_refuses_the_future_is_asked_for_what_was(ahead: float) -> None:
    """It may lack the last second, because the Date header has whole seconds. A second reading finds that."""
    api = SkewedApi(ahead, refuses_future=True)
    with LogServer(api, ahead=ahead) as server:
        client = AimlBillingClient(Settings(KEY, server.url, 5), retries=3)
        found = list(client.iter_requests(api.start))
        assert found[-1].created == min(api.charged)
        assert len(server.queries) == (3 if ahead == 3000 else 2)


@pytest.mark.parametrize("refuses_future", [False, True])
@pytest.mark.parametrize("ahead", [ahead for ahead in CLOCKS if ahead > -3000])
def test_the_newest_charges_count_towards_a_budget(ahead: float, refuses_future: bool) -> None:
    api = SkewedApi(ahead, refuses_future=refuses_future)
    with LogServer(api, ahead=ahead) as server:
        client = AimlBillingClient(Settings(KEY, server.url, 5), retries=0)
        budget = client.get_balance(budget="10 USD per month").budget
    assert budget
    assert budget.spent in ([Amount.from_usd(1), Amount.from_usd(2)] if refuses_future else [Amount.from_usd(2)])


@pytest.mark.parametrize("ahead", CLOCKS)
def test_the_future_is_not_asked_for_again_after_it_was_refused(ahead: float) -> None:
    api = SkewedApi(ahead, refuses_future=True)
    with LogServer(api, ahead=ahead) as server:
        client = AimlBillingClient(Settings(KEY, server.url, 5), retries=0)
        client.get_usage(start=api.start, end=datetime.now(timezone.utc) + timedelta(hours=2))
        before = len(server.queries)
        for _ in range(3):
            client.get_usage(start=api.start, end=datetime.now(timezone.utc) + timedelta(hours=2))
    assert (before, len(server.queries)) == (2, 2 + 3)


def test_without_a_date_this_machine_s_clock_counts() -> None:
    api = SkewedApi(0, refuses_future=True)
    with LogServer(api, ahead=None) as server:
        client = AimlBillingClient(Settings(KEY, server.url, 5), retries=0)
        assert len(list(client.iter_requests(datetime.now(timezone.utc) - timedelta(hours=1)))) == 2


def test_another_400_is_still_an_error() -> None:
    with LogServer(lambda _: 400) as server:
        client = AimlBillingClient(Settings(KEY, server.url, 5), retries=0)
        start = datetime.now(timezone.utc) - timedelta(hours=1)
        with pytest.raises(AimlBillingContractError):
            list(client.iter_requests(start))
        with pytest.raises(AimlBillingContractError):
            client.get_usage(start=start, end=start + timedelta(minutes=1))
        assert len(server.queries) == 3


@pytest.mark.parametrize(
    "date", [None, datetime(1970, 1, 1, tzinfo=timezone.utc), datetime(9999, 1, 1, tzinfo=timezone.utc)]
)
def test_an_impossible_date_says_nothing(date: datetime | None) -> None:
    clock = ApiClock()
    clock.update(date)
    assert clock.present(NOW) == clock.latest(NOW) == clock.earliest(NOW) == NOW
