"""The billing page in a real Airflow: in its menu, in its frame, with its colour mode, and with links to its tasks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
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
from airflow.sdk import DAG
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

with DAG("night_batch", start_date=datetime(2026, 1, 1), schedule=None) as dag:
    BalanceSensor(task_id="wait_for_money", threshold="15.10 USD", deferrable=True, timeout=3600)
"""


@pytest.fixture(scope="module")
def airflow(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, str]]:
    """Start an Airflow with a gate that waits."""
    folder = tmp_path_factory.mktemp("billing-page")
    dags = folder / "dags"
    dags.mkdir()
    (dags / "night_batch.py").write_text(DAG)
    with Sandbox("2.50 USD", key=KEY) as account:
        account.spend("0.20 USD", "openai/gpt-4o")
        env = {
            "AIRFLOW_CONN_AIMLBILLING_DEFAULT": account.connection(),
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # the first request takes long on a busy machine
        }
        with Deployment(folder / "home", Path(sys.executable), dags, env) as deployment:
            run_id = deployment.trigger("night_batch")
            deployment.wait_for(
                "the gate to wait", lambda: deployment.states(run_id) == {"wait_for_money": "deferred"}, seconds=120
            )
            yield deployment, run_id


def test_the_page_in_the_frame_of_airflow(chromium: Any, airflow: tuple[Deployment, str]) -> None:
    deployment, run_id = airflow
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.set_default_timeout(60_000)
    foreign, violations = [], []
    context.on("request", lambda request: foreign.append(request.url))
    context.on("console", lambda message: "Security Policy" in message.text and violations.append(message.text))
    page = context.new_page()

    page.goto(f"{deployment.url}/auth/login")
    page.locator("input[name=username]").fill(USER)
    page.locator("input[name=password]").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Browse").or_(page.get_by_role("link", name="Browse")).first.click()
    page.get_by_role("menuitem", name="AI/ML API billing").click()

    frame = page.frame_locator("iframe")
    frame.locator("#summary", has_text="1 gate is waiting").wait_for()
    frame.locator("#summary", has_text="12.80 USD").wait_for()  # 15.10 USD less the balance of 2.30 USD
    assert "2.30 USD" in frame.locator("article").inner_text()
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
