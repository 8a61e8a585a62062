"""Gates that start in the triggerer where Airflow can do that, and gates that need a worker."""

from datetime import datetime

from airflow.sdk import DAG, Asset, task

from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

options = {"start_from_trigger": True, "deferrable": True, "poke_interval": 1, "timeout": 900}
with DAG("no_worker", start_date=datetime(2026, 1, 1), schedule=None, params={"need": "1 USD", "worth": 2_000_000}):
    BalanceSensor(task_id="literal", threshold="1 USD", **options)
    BalanceSensor(task_id="credits", threshold=2_000_000, **options)
    BalanceSensor(task_id="params", threshold="{{ params.need }}", **options)
    BalanceSensor(task_id="number_in_params", threshold="{{ params.worth }}", **options)
    BalanceSensor(task_id="own_params", threshold="{{ params.mine }}", params={"mine": "1 USD"}, **options)
    BalanceSensor(task_id="conf", threshold="{{ dag_run.conf['wanted'] }}", **options)
    BalanceSensor(task_id="variable", threshold="{{ var.value.budget }}", **options)
    BalanceSensor(
        task_id="connection",
        threshold=1,
        aimlbilling_conn_id="{{ params.account }}",
        params={"account": "poor"},
        **options,
    )
    BalanceSensor(task_id="low_balance", aimlbilling_conn_id="poor", **options)
    BalanceSensor(task_id="no_xcom", threshold="1 USD", do_xcom_push=False, **options)
    BalanceSensor(task_id="failure_callback", threshold="1 USD", on_failure_callback=print, **options)
    BalanceSensor(task_id="backs_off", threshold="1 USD", exponential_backoff=True, **options)

with DAG("needs_worker", start_date=datetime(2026, 1, 1), schedule=None, params={"need": "1 USD"}):

    @task
    def price():
        return "1 USD"

    from_xcom = price()
    BalanceSensor(task_id="xcom", threshold=from_xcom, **options)
    BalanceSensor(task_id="pulled", threshold="{{ ti.xcom_pull('price') }}", **options) << from_xcom
    BalanceSensor(task_id="macro", threshold="{{ macros.json.loads('2000000') }}", **options)
    BalanceSensor(task_id="outlet", threshold="1 USD", outlets=[Asset("paid")], **options)
    BalanceSensor(task_id="callback", threshold="1 USD", on_success_callback=print, **options)
    BalanceSensor.partial(task_id="mapped", **options).expand(threshold=["1 USD", "500 USD"])

with DAG("does_not_open", start_date=datetime(2026, 1, 1), schedule=None):
    never_opens = {"threshold": "500 USD", "aimlbilling_conn_id": "empty", **options, "timeout": 4}
    BalanceSensor(task_id="skipped", soft_fail=True, **never_opens)
    BalanceSensor(task_id="timed_out", **never_opens)
    BalanceSensor(task_id="bad_threshold", threshold="{{ params.x }}", params={"x": "3 EUR"}, **options)
    BalanceSensor(task_id="refused", threshold="1 USD", aimlbilling_conn_id="wrong_key", **options)
