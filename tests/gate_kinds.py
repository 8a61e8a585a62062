"""Each kind of gate in a DAG, with a placeholder for its arguments."""

from __future__ import annotations

from support import RESCHEDULES

# Enough time for one poke of each mode. A closed gate then times out and is skipped.
GATES = {
    "poke": 'BalanceSensor(task_id="gate", poke_interval=0.1, timeout=0.1, soft_fail=True, {})',
    "reschedule": """
        BalanceSensor(task_id="gate", mode="reschedule", poke_interval=0.6, timeout=0.5, soft_fail=True, {})
    """,
    "deferrable": 'BalanceSensor(task_id="gate", deferrable=True, poke_interval=0.2, timeout=1, soft_fail=True, {})',
    "check": 'BalanceCheckOperator(task_id="gate", {})',
    "short circuit": 'BalanceShortCircuitOperator(task_id="gate", {})',
    "branch": """
        branch = BalanceBranchOperator(
            task_id="gate", follow_task_ids_if_sufficient="yes", follow_task_ids_if_insufficient="no", {}
        )

        @task
        def yes():
            pass

        @task
        def no():
            pass

        branch >> [yes(), no()]
    """,
    "guard": """
        from airflow_provider_aimlbilling.guard import require_balance

        @task
        def gate():
            require_balance({})

        gate()
    """,
}
if not RESCHEDULES:
    del GATES["reschedule"]
# How a gate that does not open ends. The others succeed.
CLOSED = {"poke": "skipped", "reschedule": "skipped", "deferrable": "skipped", "check": "failed", "guard": "failed"}
