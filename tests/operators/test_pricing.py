"""EstimateCostOperator in DAG runs, and its output as the threshold of the gates."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pricings import unit

from airflow_provider_aimlbilling.sandbox import Sandbox


def test_the_model_type_is_templated_and_selects_the_model(run_dag: Any, sandbox: Sandbox) -> None:
    chat = sandbox.account.catalogue[0]
    sandbox.account.catalogue = [chat, dict(chat) | {"type": "openai/images", "pricing": {"kind": "variable"}}]
    run = run_dag(
        """
        from airflow_provider_aimlbilling.operators.pricing import EstimateCostOperator

        EstimateCostOperator(
            task_id="gate", model="chat", work={"input": 2, "output": 0}, model_type="{{ 'openai/' }}chat-completions"
        )
        """
    )
    assert run.xcom() == "10 credits"


def test_an_estimate_is_the_threshold_of_the_gates(run_dag: Any, sandbox: Sandbox) -> None:
    """1 million input tokens and 100,000 output tokens cost 3.50 USD; the account holds 2.50 USD."""
    body = """
        from airflow_provider_aimlbilling.operators.pricing import EstimateCostOperator

        work = {"input token": "{{ params.tokens }}", "output token": 100_000}
        price = EstimateCostOperator(task_id="price", model="sandbox/chat", work=work, params={"tokens": 1_000_000})
        BalanceSensor(task_id="wait", threshold=price.output, poke_interval=0.1, timeout=0.2, soft_fail=True)
        BalanceShortCircuitOperator(task_id="skip", threshold=price.output)
        BalanceCheckOperator(task_id="check", threshold="{{ ti.xcom_pull('price') }}") << price
    """
    run = run_dag(body)
    assert run.xcom("price") == "7000000 credits"
    assert run.xcom("price", key="estimate")["amount_usd"] == "3.50"
    assert run.xcom("price", key="estimate")["rates"][0]["quantity"] == "1000000"
    assert (run.state("wait"), run.state("check")) == ("skipped", "failed")
    for task in ("wait", "skip", "check"):
        assert run.xcom(task, key="verdict")["shortfall_credits"] == 2_000_000
    sandbox.set_balance("3.50 USD")
    run = run_dag(body)
    assert {run.state(task) for task in ("wait", "skip", "check")} == {"success"}


def test_a_job_without_a_price_fails_and_lists_what_is_known(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        """
        from airflow_provider_aimlbilling.operators.pricing import EstimateCostOperator

        EstimateCostOperator(task_id="gate", model="sandbox/video", work={"second": 5}, variant={"resolution": "4k"})
        """
    )
    assert run.state() == "failed"
    assert "'second' at 0.65 USD for 1 when {'resolution': '1080p'}" in run.log


IMPORT = "from airflow_provider_aimlbilling.operators.pricing import EstimateCostOperator\n"


@pytest.mark.parametrize("model", ["sandbox/chat", "sandbox/gpt", "GPT"])
def test_a_job_can_be_described_by_requests_and_tokens(run_dag: Any, sandbox: Sandbox, model: str) -> None:
    """In both shapes of the catalogue, under two endpoint types, and in any case."""
    run = run_dag(
        f"{IMPORT}EstimateCostOperator(task_id='gate', model={model!r}, requests='{{{{ 1000 + 200 }}}}', "
        "input_tokens=900, max_output_tokens=400, parts=20)"
    )
    assert run.state() == "success"
    assert run.xcom() == "15000000 credits"  # 1,080,000 x 2.5 + 480,000 x 10 USD per million
    assert run.xcom(key="part") == "750000 credits"


def test_no_part_costs_more_than_the_price_of_a_part(run_dag: Any, sandbox: Sandbox) -> None:
    """Ten requests in four parts: two of them have three requests, at 10,000 output tokens of 20 credits."""
    run = run_dag(
        f"{IMPORT}EstimateCostOperator(task_id='gate', model='sandbox/chat', requests=10, input_tokens=0, "
        "max_output_tokens=10_000, parts=4)"
    )
    assert (run.xcom(), run.xcom(key="part")) == ("2000000 credits", "600000 credits")
    assert "The job will cost 2,000,000 credits (1.00 USD)" in run.log
    assert "0.30 USD for each of 4 parts" in run.log


def test_tokens_and_requests_fit_models_of_other_shapes(run_dag: Any, sandbox: Sandbox) -> None:
    """A fee per request is added; no output tokens cost nothing where the model has none; a space is no other name."""
    units = [unit("token", "input", "2.5", 1_000_000), unit("request", "input", "0.01", 1)]
    model = {"id": "embed", "aliases": [], "type": "t", "info": {}, "tags": []}
    sandbox.account.catalogue = [{**model, "pricing": {"kind": "fixed", "currency": "USD", "units": units}}]
    run = run_dag(
        f"{IMPORT}EstimateCostOperator(task_id='gate', model='embed ', requests=1000, input_tokens=1000, "
        "max_output_tokens=0)"
    )
    assert run.xcom() == "25000000 credits"  # 2.50 USD for the tokens, and 10 USD for the requests


def test_a_boolean_variant_may_come_from_a_template(run_dag: Any, sandbox: Sandbox) -> None:
    variants = [
        {"when": {"audio": audio}, "price": Decimal(1 + audio), "unit": "second", "per": 1} for audio in (False, True)
    ]
    model = {"id": "video", "aliases": [], "type": "t", "info": {}, "tags": []}
    pricing = {"kind": "variants", "currency": "USD", "dimensions": ["audio"], "variants": variants}
    sandbox.account.catalogue = [{**model, "pricing": pricing}]
    run = run_dag(
        f"{IMPORT}EstimateCostOperator(task_id='gate', model='video', work={{'second': 1}}, "
        "variant={'audio': '{{ params.audio }}'}, params={'audio': True})"
    )
    assert run.xcom() == "4000000 credits"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("work={'input': 1}, requests=1, input_tokens=1, max_output_tokens=1", "either by work, or by requests"),
        ("", "either by work, or by requests"),
        ("requests=10, input_tokens=1", "is not a quantity of 'max_output_tokens'"),
        ("requests='{{ none }}', input_tokens=1, max_output_tokens=1", "is not a quantity of 'requests'"),
        ("requests=1.5, input_tokens=1, max_output_tokens=1", "is not a whole number of requests"),
        ("requests=1, input_tokens=1, max_output_tokens=1, parts=0", "is not a whole number of parts"),
    ],
)
def test_a_description_that_is_incomplete_is_refused(
    run_dag: Any, sandbox: Sandbox, arguments: str, message: str
) -> None:
    run = run_dag(f"{IMPORT}EstimateCostOperator(task_id='gate', model='sandbox/chat', {arguments})")
    assert run.state() == "failed"
    assert message in run.log
