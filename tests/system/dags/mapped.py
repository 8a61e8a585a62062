"""Gates in mapped task groups, each with one index that may run and one that must not."""

from datetime import datetime

from airflow.sdk import DAG, task, task_group

from airflow_provider_aimlbilling.operators.balance import BalanceBranchOperator, BalanceShortCircuitOperator

with DAG("mapped_groups", start_date=datetime(2026, 1, 1), schedule=None):

    @task
    def thresholds():
        return ["1 USD", "9 USD"]

    @task
    def job(threshold):
        pass

    @task(trigger_rule="all_done")
    def eager_job(threshold):
        pass

    @task_group
    def skipping(threshold):
        gate = BalanceShortCircuitOperator(task_id="gate", threshold=threshold, aimlbilling_conn_id="mapped")
        gate >> [job(threshold), eager_job(threshold)]

    @task_group
    def branching(threshold):
        gate = BalanceBranchOperator(
            task_id="gate",
            threshold=threshold,
            aimlbilling_conn_id="mapped",
            follow_task_ids_if_sufficient=["branching.job", "branching.eager_job"],
            follow_task_ids_if_insufficient=[],
        )
        gate >> [job(threshold), eager_job(threshold)]

    skipping.expand(threshold=thresholds())
    branching.expand(threshold=["1 USD", "9 USD"])
