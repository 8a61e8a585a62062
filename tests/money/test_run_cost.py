"""What a run cost: exact, by task, and open about what is not known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from logged_requests import LONG, START, row

from airflow_provider_aimlbilling.exceptions import AimlBillingThresholdError
from airflow_provider_aimlbilling.money import run_cost
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.request_id import encode_request_id
from airflow_provider_aimlbilling.money.request_log import LoggedRequest
from airflow_provider_aimlbilling.money.run_cost import MAX_LINES, RunCost, Settling, compare, read_estimate
from airflow_provider_aimlbilling.money.tally import full_names
from airflow_provider_aimlbilling.money.usage import CLOCK_MARGIN

END = START + timedelta(hours=1)


def result(*rows: LoggedRequest, may_be_incomplete: bool = False, **options: Any) -> dict[str, Any]:
    cost = RunCost("d", "r", START).add_all(rows)
    found = cost.to_dict(end=END, may_be_incomplete=may_be_incomplete, **options)
    assert json.loads(json.dumps(found)) == found, "it is plain JSON"
    return found


def part(found: dict[str, Any], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(line[name] for name in names) for line in found["lines"]]


def test_the_cost_is_exact_by_task_index_try_and_model() -> None:
    rows = [row("0.1", "a") for _ in range(10)]
    rows += [row(7, "b", index, number, model=model) for index in (0, 1) for number in (1, 2) for model in ("x", "y")]
    rows += [row(0, "b", 1, 2, model="x", succeeded=False, input_tokens=None, output_tokens=None)]
    found = result(*rows)
    assert (found["cost_usd"], found["cost_credits"]) == ("0.0000285", "57")
    assert (found["requests"], found["failed_requests"], found["requests_without_cost"]) == (19, 1, 0)
    assert (found["input_tokens"], found["output_tokens"]) == (180, 90)
    assert part(found, "task_id", "map_index", "try_number", "model", "cost_credits", "requests") == [
        *(("b", index, number, model, "7", 1) for index, number, model in [(0, 1, "x"), (0, 1, "y"), (0, 2, "x")]),
        ("b", 0, 2, "y", "7", 1),
        ("b", 1, 1, "x", "7", 1),
        ("b", 1, 1, "y", "7", 1),
        ("b", 1, 2, "x", "7", 2),
        ("b", 1, 2, "y", "7", 1),
        ("a", -1, 1, "chat", "1", 10),
    ]
    assert [(task["task_id"], task["cost_credits"]) for task in found["tasks"]] == [("b", "56"), ("a", "1")]
    assert {model["model"]: model["cost_credits"] for model in found["models"]} == {"x": "28", "y": "28", "chat": "1"}
    assert found["is_lower_bound"] is False


def test_an_unknown_outcome_is_not_a_failure_and_its_cost_counts() -> None:
    found = result(row(7, "a"), row(5, "a", succeeded=None), row(0, "a", succeeded=None, input_tokens=None))
    assert (found["cost_credits"], found["requests"], found["failed_requests"]) == ("12", 3, 0)
    assert found["requests_without_outcome"] == 2
    assert (found["input_tokens"], found["output_tokens"]) == (None, 15), "what it does not say is unknown"


def test_retries_are_the_tries_before_the_last_one_of_each_task_instance() -> None:
    rows = [row(100, "a", 0, number) for number in (1, 2, 3)] + [row(10, "a", 1, 1), row(1, "b", -1, 2)]
    retries = result(*rows)["retries"]
    assert (retries["cost_credits"], retries["requests"]) == ("200", 2)


def test_rows_of_other_runs_and_rows_without_an_id_are_told_apart() -> None:
    theirs = [row(1, run="another"), row(2, dag="another")]
    foreign = ["", "my-own-id", "airflow1:d:job:-1:1", "airflow1:d:job:-1:01:r", None]
    hostile = row(9, "\x1b[31mcrimson")
    found = result(row(), *theirs, hostile, *(row(4, client_request_id=text) for text in foreign))
    assert (found["requests"], found["cost_credits"]) == (1, "100")
    assert (found["other_runs"]["requests"], found["other_runs"]["cost_credits"]) == (2, "3")
    assert (found["unattributed"]["requests"], found["unattributed"]["cost_credits"]) == (6, "29")
    assert "crimson" not in json.dumps(found), "no task has such a name"


def test_a_clock_that_is_behind_loses_no_row_of_the_run() -> None:
    early = START - CLOCK_MARGIN
    found = result(row(at=early), row(run="another", at=early), row(client_request_id=None, at=early))
    assert (found["requests"], found["other_runs"]["requests"], found["unattributed"]["requests"]) == (1, 0, 0)


def test_a_row_without_a_cost_makes_the_total_a_lower_bound_and_is_never_zero() -> None:
    found = result(row(100, "a"), row(None, "a"), row(None, "b"))
    assert (found["cost_credits"], found["is_lower_bound"], found["requests_without_cost"]) == ("100", True, 2)
    assert part(found, "task_id", "cost_usd", "cost_credits", "requests_without_cost") == [
        ("a", "0.00005", "100", 1),
        ("b", None, None, 1),
    ]
    nothing_known = result(row(None), estimate=Amount(5))
    assert (nothing_known["cost_usd"], nothing_known["is_lower_bound"]) == (None, True)
    assert nothing_known["estimate"]["ratio"] is nothing_known["estimate"]["actual_usd"] is None


@pytest.mark.parametrize("incomplete", [False, True])
@pytest.mark.parametrize("rows", [[], [row(client_request_id=None)], [row(run="x")]])
def test_a_run_without_requests_is_never_reported_as_free(rows: list[LoggedRequest], incomplete: bool) -> None:
    """They may have been sent without the header, or with another key."""
    found = result(*rows, may_be_incomplete=incomplete, estimate=Amount(5))
    assert (found["cost_credits"], found["cost_usd"], found["requests"]) == (None, None, 0)
    assert found["estimate"]["actual_usd"] is None


def test_unknown_tokens_are_unknown_and_those_of_failed_requests_zero() -> None:
    failed = {"succeeded": False, "input_tokens": None, "output_tokens": None}
    found = result(row(task="a"), row(task="a", **failed), row(task="b", output_tokens=None))
    assert (found["input_tokens"], found["output_tokens"]) == (20, None)
    assert part(found, "task_id", "input_tokens", "output_tokens") == [("a", 10, 5), ("b", 10, None)]


@pytest.mark.parametrize("known", [True, False])
def test_a_long_name_is_one_task_however_much_of_it_an_id_holds(known: bool) -> None:
    rows = [row(1, LONG, index, number, run="r") for index in (9, 10, 12345) for number in (1, 10)]
    assert len({text.split(":")[2] for text in (str(one.client_request_id) for one in rows)}) > 1
    found = result(*rows, task_ids=[LONG, "another"] if known else [])
    (task,) = found["tasks"]
    assert task["requests"] == 6
    assert (task["task_id"] == LONG) is known
    assert LONG.startswith(task["task_id"].partition("..-")[0])
    assert found["retries"]["requests"] == 3
    assert len(part(found, "map_index")) == 6


def test_a_shortened_name_takes_the_full_one_that_another_id_holds() -> None:
    shortened = str(encode_request_id("d" * 60, "r" * 60, LONG, -1, 1)).split(":")[2]
    assert full_names([shortened, LONG, "x"]) == {shortened: LONG, LONG: LONG, "x": "x"}


def test_the_xcom_is_bounded_and_says_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_cost, "MAX_LINES", 3)
    found = result(*(row(index, "a", index) for index in range(10)))
    assert [line["cost_credits"] for line in found["lines"]] == ["9", "8", "7"]
    assert (found["lines_left_out"], found["cost_credits"]) == (7, "45")


def test_the_memory_does_not_grow_with_the_rows() -> None:
    def many() -> Iterator[LoggedRequest]:
        one, other = row(), row(client_request_id=None)
        for _ in range(20_000):
            yield one
            yield other

    cost = RunCost("d", "r", START).add_all(many())
    assert (cost.total.requests, len(cost._tallies)) == (20_000, 1)


@pytest.mark.parametrize(
    ("estimate", "actual", "difference", "ratio"),
    [
        ("1.20 USD", "1.00 USD", ("-0.20", "-400000"), "0.8333"),
        ("1 USD", "1.50 USD", ("0.50", "1000000"), "1.5000"),
        ("1 USD", "1 USD", ("0.00", "0"), "1.0000"),
        ("3 credits", "0.5 credits", ("-0.00000125", "-2.5"), "0.1667"),
        (0, 5, ("0.0000025", "5"), None),
    ],
)
def test_an_estimate_is_compared_exactly(
    estimate: object, actual: object, difference: tuple[str, str], ratio: str | None
) -> None:
    found = compare(Amount.parse(estimate), Amount.parse(actual))
    assert (found["difference_usd"], found["difference_credits"]) == difference
    assert found["ratio"] == ratio


def test_the_parts_of_an_estimate_are_added_exactly() -> None:
    """Also beyond the 28 digits of Python's default context."""
    parts = ["9000000000000000 credits", "0.000000000000000000000000000001 credits"]
    assert read_estimate(parts).text == "9000000000000000.000000000000000000000000000001 credits"
    assert Amount.parse(read_estimate(parts).text) == read_estimate(parts)
    with pytest.raises(AimlBillingThresholdError, match="too many digits"):
        read_estimate(["9000000000000000 credits", "1e-59 credits"])


def test_an_estimate_is_read_in_every_form_that_the_operator_pushes() -> None:
    details = {"amount_credits": "617500.5", "amount_usd": "0.30875025"}
    assert read_estimate("617501 credits") == Amount(617501)
    assert read_estimate(details) == Amount(Decimal("617500.5"))
    assert read_estimate(["1 USD", details, (2, "3 credits")]) == Amount(Decimal("2617505.5"))
    for wrong in (None, "", [], {}, {"amount_credits": 5}, [None], "much", 1.5, True, b"5"):
        with pytest.raises(AimlBillingThresholdError):
            read_estimate(wrong)


def test_charges_have_settled_when_readings_far_enough_apart_agree() -> None:
    settling = Settling(120)
    assert not settling.update("1:0:5", 900, 1000)
    assert not settling.update("1:0:5", 1119, 1119)
    assert settling.next_reading(1119, deadline=9999) == 1
    assert settling.update("1:0:5", 1120, 1121)
    assert not settling.update("2:0:5", 1129, 1130), "a late row"
    assert settling.next_reading(1130, deadline=1200) == 70
    assert not settling.update("2:0:6", 1240, 1250), "a late charge"
    assert settling.update("2:0:6", 1370, 1371)
    resumed = Settling(120, settling.fingerprint, settling.since)
    assert resumed.update("2:0:6", 1371, 1372)


def test_late_charges_change_the_fingerprint() -> None:
    cost = RunCost("d", "r", START)
    seen = [cost.fingerprint]
    for one in (row(0), row(100), row(None)):
        cost.add_all([one])
        seen.append(cost.fingerprint)
    assert len(set(seen)) == 4
    cost.add_all([row(5, run="another"), row(5, client_request_id=None)])
    assert cost.fingerprint == seen[-1]


def test_the_result_has_a_limited_length_and_says_what_is_left_out() -> None:
    rows = [row(1, task=f"task_{number}", model=f"model_{number}") for number in range(MAX_LINES + 2)]
    found = result(*rows)
    for name in ("tasks", "models", "lines"):
        assert (len(found[name]), found[f"{name}_left_out"]) == (MAX_LINES, 2)
    assert found["requests"] == MAX_LINES + 2
