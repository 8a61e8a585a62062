"""What costs look like in the log: figures that are not known are not shown as zero."""

from __future__ import annotations

from logged_requests import START, row

from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.cost_text import describe, lower_bound, not_attributed, table
from airflow_provider_aimlbilling.money.run_cost import RunCost


def test_the_table_shows_the_most_expensive_parts() -> None:
    cost = RunCost("d", "r", START).add_all(
        [row(2_000_000, "a", 3, 2), row(None, "a", 3, 2), row(None, "b", output_tokens=None), row(5, "c")]
    )
    assert table(cost.lines()).splitlines() == [
        "task  index  try  model  requests  failed  tokens in  out  USD",
        "a     3      2    chat   2         0       20         10   ≥ 1.00",
        "c     -      1    chat   1         0       10         5    0.0000025",
        "b     -      1    chat   1         0       10         ?    unknown",
    ]
    many = RunCost("d", "r", START).add_all(row(5, "a", index) for index in range(35))
    assert table(many.lines()).endswith("… and 5 more")


def text(*rows: object, may_be_incomplete: bool = False, estimate: Amount | None = None) -> str:
    cost = RunCost("d", "r", START).add_all(rows)  # type: ignore[arg-type]
    report = cost.to_dict(end=START, may_be_incomplete=may_be_incomplete, estimate=estimate)
    sentences = describe(cost, report), lower_bound(cost.total), not_attributed(cost.unattributed)
    return " ".join(filter(None, sentences))


def test_the_summary_says_what_is_known() -> None:
    assert text(row(2_000_000), row(1_000_000, number=2, succeeded=False), estimate=Amount(2_400_000)) == (
        "The run 'r' of 'd': 3,000,000 credits (1.50 USD) for 2 requests, 1 of them failed. "
        "Spent on earlier tries: 1.00 USD. Estimated: 1.20 USD, actual: 1.50 USD (ratio 1.2500)."
    )
    assert text(row(0)) == "The run 'r' of 'd': 0 credits (0.00 USD) for 1 request."


def test_the_summary_says_what_is_not_known() -> None:
    assert text(row(4), row(None), row(7, client_request_id=None), may_be_incomplete=True) == (
        "The run 'r' of 'd': at least 4 credits (0.000002 USD) for 2 requests. Charges may still be missing. "
        "The log has no cost for 1 of 2 requests. The total is a lower bound. Requests that name no task: "
        "7 credits (0.0000035 USD) for 1 request. To name the task, send request_headers() with each request."
    )
    assert text(row(7, client_request_id=None), estimate=Amount(2)).startswith(
        "The run 'r' of 'd': 0 requests at an unknown cost. Estimated: 0.000001 USD, actual: unknown. "
    )
    assert text(row(None)).startswith("The run 'r' of 'd': 1 requests at an unknown cost. The log has no cost")
