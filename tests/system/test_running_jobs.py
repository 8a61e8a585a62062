"""Guards that count each other, on real workers; ``make parallel`` does more of it."""

from __future__ import annotations

from deployment import Deployment
from spend_server import SpendServer
from support import AIRFLOW_3_1

MONEY = 2  # jobs that the account can pay


def test_jobs_that_run_together_do_not_overspend(deployment: Deployment, spending: SpendServer) -> None:
    """Ten jobs, of which four run at once, unless other tests occupy the workers."""
    run = deployment.trigger("counted")
    ended = deployment.wait_for("ten jobs to end", lambda: states_at_end(deployment, run), seconds=240)
    ran = ended.count("success")
    assert ended.count("skipped") == 10 - ran
    assert MONEY - 1 <= ran <= MONEY
    assert spending.jobs["counted"] == ran
    if AIRFLOW_3_1:
        held = deployment.get("/aimlbilling/api/held", deployment.token())["tasks"]
        (shown,) = [shown for shown in held if shown["run_id"] == run]
        assert (shown["outcome"], shown["held"], shown["of"]) == ("skipped", 10 - ran, 10)


def states_at_end(deployment: Deployment, run: str) -> list[str]:
    states = [state for (state,) in deployment.query("select state from task_instance where run_id = ?", run)]
    return states if len(states) == 10 and set(states) <= {"success", "skipped", "failed"} else []
