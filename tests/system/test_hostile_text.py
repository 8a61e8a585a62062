"""An API that sends hostile text, on a real Airflow: its triggerer survives, and so does its database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deployment import Deployment
from hostile import MARK, TEXTS, encode, is_clean, texts_in
from raw_server import BALANCE

from airflow_provider_aimlbilling.sandbox import Sandbox

TEXT = "".join(text[:100] for text in TEXTS.values())  # with a NUL and a lone surrogate, which PostgreSQL refuses
HOSTILE = BALANCE | {name: TEXT for name, value in BALANCE.items() if isinstance(value, str)}


def test_hostile_text_ends_no_triggerer(
    deployment: Deployment, accounts: dict[str, Sandbox], runs: dict[str, str], wait_for_logs: Callable[..., str]
) -> None:
    account, run = accounts["hostile"], runs["hostile"]
    before = {"deferred": "deferred", "times_out": "failed", "balance": "success"}
    deployment.wait_for(
        "a deferred gate, one that timed out, and a balance",
        lambda: before.items() <= deployment.states(run).items(),
        seconds=240,
    )
    account.fail(body=encode(HOSTILE))
    after = {"deferred": "success", "in_triggerer": "success"}
    deployment.wait_for("the gates to open", lambda: after.items() <= deployment.states(run).items(), seconds=240)

    xcoms: dict[str, Any] = {
        key: deployment.xcom(run, task, key) for task, key in (("deferred", "return_value"), ("deferred", "verdict"))
    }
    xcoms["in_triggerer"] = deployment.xcom(run, "in_triggerer")
    texts = [text for text in texts_in(xcoms) if MARK in text]
    assert len(texts) >= 3 * 4, "each of the four text fields, in each XCom"
    assert all(is_clean(text) for text in texts)
    triggerers = "select count(*) from job where job_type = 'TriggererJob'"
    assert deployment.query(triggerers) == [(1,)], "none was restarted"
    deployment._healthy()  # raises if a service has ended
    log = wait_for_logs("hostile", "Gate open")
    assert "\0" not in log
    assert "\x1b" not in log
