"""The request log of the sandbox."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
import requests
from support import KEY

from airflow_provider_aimlbilling.sandbox import Sandbox

Get = Callable[..., requests.Response]
NOW = datetime.now(timezone.utc)


def test_pages_are_newest_first_and_count_all_rows(sandbox: Sandbox, get: Get) -> None:
    for number in range(7):
        sandbox.spend(number + 1, "sandbox/chat", at=NOW - timedelta(minutes=number % 3))
    costs, pages = [], []
    for offset in (0, 3, 6, 9):
        answer = get("/v2/logs", period="1h", limit="3", offset=str(offset)).json()
        costs += [row["cost"]["credits"] for row in answer["data"]]
        pages.append((len(answer["data"]), answer["pagination"]["total"], answer["pagination"]["has_more"]))
    assert pages == [(3, 7, True), (3, 7, True), (1, 7, False), (0, 7, False)]
    assert costs == [7, 4, 1, 5, 2, 6, 3]


def test_a_window_includes_its_start_and_not_its_end(sandbox: Sandbox, get: Get) -> None:
    moments = [datetime(2026, 3, day, tzinfo=timezone.utc) for day in (1, 2, 3)]
    for number, moment in enumerate(moments):
        sandbox.spend(number + 1, "sandbox/chat", at=moment)
    answer = get("/v2/logs", start="2026-03-01", end="2026-03-03T00:00:00Z").json()
    assert [row["cost"]["credits"] for row in answer["data"]] == [2, 1]


def test_models_and_outcomes_filter(sandbox: Sandbox) -> None:
    for model in ("sandbox/chat", "sandbox/gpt", "other/chat"):
        sandbox.spend(1, model)
    sandbox.account.log_failure("sandbox/chat", None)
    for query, count in [
        ({"model": "sandbox/chat"}, 2),
        ({"model": "Chat"}, 3),
        ({"model": ["sandbox/gpt", "other/chat"]}, 2),
        ({"model": "sandbox/gpt,other/chat"}, 0),
        ({"status": "failed"}, 1),
        ({"status": ["failed", "succeeded"]}, 4),
        ({"model": "chat", "status": "succeeded"}, 2),
    ]:
        response = requests.get(
            f"{sandbox.url}/v2/logs",
            params={"period": "1h", **query},
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=5,
        )
        assert response.json()["pagination"]["total"] == count, query


@pytest.mark.parametrize(("limit", "answered"), [(200, 200), (3, 3), (None, 205)])
def test_the_log_may_be_read_so_often_in_a_minute(sandbox: Sandbox, get: Get, limit: int | None, answered: int) -> None:
    sandbox.account.max_log_requests = limit
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {KEY}"
        statuses = [
            session.get(f"{sandbox.url}/v2/logs?period=1h", timeout=5).status_code
            for _ in range(205 if limit != 3 else 5)
        ]
    assert statuses == [200] * answered + [429] * (len(statuses) - answered)
