"""The billing page in a real Airflow: its menu, frame and colour mode, and each block with what Airflow really has."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from accessibility import serious_findings
from deployment import PASSWORD, USER, Deployment
from support import AIRFLOW, AIRFLOW_3, KEY

from airflow_provider_aimlbilling.sandbox import Sandbox

pytestmark = [
    pytest.mark.skipif(not AIRFLOW_3 or AIRFLOW.startswith("3.0"), reason="the page needs Airflow 3.1"),
    pytest.mark.skipif(
        not [point for point in entry_points(group="airflow.plugins") if "aimlbilling" in point.value],
        reason="the plugin is not installed",
    ),
]

DAG = """
from datetime import datetime
import requests
from airflow.sdk import DAG, task
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.operators.balance import BalanceCheckOperator
from airflow_provider_aimlbilling.operators.run_cost import GetRunCostOperator
from airflow_provider_aimlbilling.request_headers import request_headers
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

with DAG("night_batch", start_date=datetime(2026, 1, 1), schedule=None) as dag:
    BalanceSensor(task_id="wait_for_money", threshold="15.10 USD", deferrable=True, timeout=3600)

with DAG("translate", start_date=datetime(2026, 1, 1), schedule=None):
    BalanceCheckOperator(task_id="check", threshold="3 USD")

with DAG("summarize", start_date=datetime(2026, 1, 1), schedule=None):

    @task
    def job():
        connection = AimlBillingHook.get_connection("paying")
        requests.post(
            f"{connection.host}/v1/chat/completions",
            json={"model": "sandbox/chat", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 20},
            headers={"Authorization": f"Bearer {connection.password}"} | request_headers(),
            timeout=60,
        ).raise_for_status()

    job() >> GetRunCostOperator(task_id="cost", aimlbilling_conn_id="paying")
"""
# Of 20 connections, one reaches an account with a history, one the account that a job spends from, one an address where
# nothing listens, and the others an account that is empty.
EMPTY = [f"team_{number:02}" for number in range(17)]
AWAY = "away"


def add_gates(home: Path, run_id: str, number: int) -> None:
    """Add copies of the waiting gate to Airflow's database, as mapped tasks."""
    with sqlite3.connect(home / "airflow.db", timeout=60) as database:
        database.row_factory = sqlite3.Row
        (row,) = database.execute("select * from task_instance where run_id = ?", (run_id,)).fetchall()
        copies = [{**row, "id": uuid.uuid4().hex, "map_index": index} for index in range(number)]
        names = ", ".join(row.keys())
        values = ", ".join(f":{name}" for name in row.keys())  # noqa: SIM118 - iterating a row gives its values
        database.executemany(f"insert into task_instance ({names}) values ({values})", copies)


@pytest.fixture(scope="module")
def airflow(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, str]]:
    """Start an Airflow with 20 connections, a gate that waits and a check that failed."""
    folder = tmp_path_factory.mktemp("billing-page")
    dags = folder / "dags"
    dags.mkdir()
    (dags / "night_batch.py").write_text(DAG)
    with (
        Sandbox("5.20 USD", key=KEY) as account,
        Sandbox(0, key=KEY) as empty,
        Sandbox("9 USD", key=KEY) as paying,
    ):
        for ago in range(1, 28):
            account.spend("0.10 USD", "openai/gpt-4o-mini", at=datetime.now(timezone.utc) - timedelta(days=ago))
        account.spend("0.20 USD", "openai/gpt-4o")
        env = {
            "AIRFLOW_CONN_AIMLBILLING_DEFAULT": account.connection(),
            "AIRFLOW_CONN_PAYING": paying.connection(),
            f"AIRFLOW_CONN_{AWAY.upper()}": json.dumps(
                json.loads(account.connection()) | {"host": "http://127.0.0.1:9"}
            ),
            **{f"AIRFLOW_CONN_{name.upper()}": empty.connection() for name in EMPTY},
        }
        with Deployment(folder / "home", Path(sys.executable), dags, env) as deployment:
            expected = {
                "night_batch": {"wait_for_money": "deferred"},
                "translate": {"check": "failed"},
                "summarize": {"job": "success", "cost": "success"},
            }
            runs = {dag_id: deployment.trigger(dag_id) for dag_id in expected}
            deployment.wait_for(
                "the runs",
                lambda: {dag_id: deployment.states(run) for dag_id, run in runs.items()} == expected,
                seconds=240,
            )
            run_id = runs["night_batch"]
            yield deployment, run_id


def sign_in(page: Any, deployment: Deployment) -> None:
    page.goto(f"{deployment.url}/auth/login")
    page.locator("input[name=username]").fill(USER)
    page.locator("input[name=password]").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Browse").or_(page.get_by_role("link", name="Browse")).first.wait_for()


def test_the_page_in_the_frame_of_airflow(chromium: Any, airflow: tuple[Deployment, str]) -> None:
    deployment, run_id = airflow
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.set_default_timeout(60_000)
    foreign, violations = [], []
    context.on("request", lambda request: foreign.append(request.url))
    context.on("console", lambda message: "Security Policy" in message.text and violations.append(message.text))
    page = context.new_page()

    sign_in(page, deployment)
    page.get_by_role("button", name="Browse").or_(page.get_by_role("link", name="Browse")).first.click()
    page.get_by_role("menuitem", name="AI/ML API billing").click()

    frame = page.frame_locator("iframe")
    frame.locator("#summary", has_text="1 gate is waiting").wait_for()
    frame.locator("#summary", has_text="12.80 USD").wait_for()  # 15.10 USD less the balance of 2.30 USD
    assert "2.30 USD" in frame.locator("article:has-text('aimlbilling_default')").inner_text()
    frame.locator("#legend", has_text="openai/gpt-4o").wait_for()
    gate = frame.locator("#gates tbody tr").inner_text()
    assert "wait_for_money" in gate
    assert "night_batch" in gate
    assert "12.80 USD" in gate

    for mode in ("dark", "light"):
        # What Airflow's own tabs tell each other when somebody changes the mode in one of them.
        page.evaluate(
            "(mode) => { localStorage.setItem('theme', mode);"
            " dispatchEvent(new StorageEvent('storage', {key: 'theme', newValue: mode})); }",
            mode,
        )
        page.locator(f"html.{mode}").wait_for()
        frame.locator(f"html[data-theme={mode}]").wait_for()

    link = frame.get_by_role("link", name="wait_for_money")
    with context.expect_page() as opened:
        link.click(modifiers=["ControlOrMeta"])
    task = f"{deployment.url}/dags/night_batch/runs/{run_id}/tasks/wait_for_money"
    opened.value.wait_for_url(f"{task}**")
    page.evaluate("window.marker = 1")
    link.click()
    page.wait_for_url(f"{task}**")
    page.get_by_text("wait_for_money").first.wait_for()
    assert page.evaluate("window.marker") == 1, "Airflow followed without loading itself again"
    page.go_back()
    frame.get_by_text("1 gate is waiting").first.wait_for()

    context.close()
    assert [url for url in foreign if not url.startswith((f"{deployment.url}/", "data:", "blob:"))] == []
    assert violations == []


@pytest.mark.parametrize("colour", ["light", "dark"])
def test_each_block_with_what_airflow_has(chromium: Any, airflow: tuple[Deployment, str], colour: str) -> None:
    deployment, _ = airflow
    context = chromium.new_context(viewport={"width": 400, "height": 800}, color_scheme=colour)
    context.set_default_timeout(60_000)
    page = context.new_page()
    sign_in(page, deployment)
    page.goto(f"{deployment.url}/aimlbilling/page")
    page.locator("body:not(:has([aria-busy]))").wait_for()

    def text(selector: str) -> str:
        return " ".join(page.locator(selector).inner_text().split())

    assert page.locator("article").count() == 20
    assert "Low" in text("article:has-text('aimlbilling_default')")
    assert "Empty: the account holds nothing. 0.00 USD" in text(f"article:has-text('{EMPTY[-1]}')")
    away = text(f"article:has-text('{AWAY}')")
    assert "Unknown: the balance could not be read yet." in away
    assert "No answer from http://127.0.0.1:9" in away
    assert "openai/gpt-4o" in text("#legend")
    assert "2.90 USD" in text("#spending")
    assert "translate" in text("#held")
    assert "0.70 USD missing" in text("#held")
    assert "0.70 USD missing: balance 2.30 USD, needs 3.00 USD" in text("#held")
    assert "summarize" in text("#runs")
    assert "0.000" in text("#runs")
    assert re.search(r"Runway 2\d\.\d (to 2\d\.\d )?days", text("article:has-text('aimlbilling_default')"))
    page.select_option("#connection", EMPTY[0])
    page.get_by_text("Nothing was spent in this period.").wait_for()
    page.select_option("#connection", AWAY)
    page.locator("#spending .problem", has_text="No answer from http://127.0.0.1:9").wait_for()
    page.select_option("#connection", "aimlbilling_default")
    page.locator("#legend li").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    assert serious_findings(page) == []
    context.close()


def test_five_hundred_gates_that_airflow_knows(chromium: Any, airflow: tuple[Deployment, str]) -> None:
    deployment, run_id = airflow
    add_gates(deployment.home, run_id, 499)
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    page = context.new_page()
    sign_in(page, deployment)
    page.goto(f"{deployment.url}/aimlbilling/page")
    page.locator("#summary", has_text="500 gates are waiting; a top-up of 12.80 USD releases all of them").wait_for()
    page.get_by_role("button", name="Show all 500 gates").click()
    assert page.locator("#gates tbody tr").count() == 500
    page.locator("#gates tbody tr", has_text="wait_for_money [498]").wait_for()
    context.close()
