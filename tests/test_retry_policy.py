"""The retry policy reads real errors of real clients, and whatever else an exception may be, without harm."""

from __future__ import annotations

import copy
import importlib
import json
import logging
import pickle
import sys
import urllib.request
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http import HTTPStatus
from importlib.metadata import version
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import requests
from conftest import KEY

from airflow_provider_aimlbilling.exceptions import (
    AimlBillingAuthError,
    AimlBillingConnectionError,
    AimlBillingContractError,
    AimlBillingError,
    AimlBillingPricingError,
    AimlBillingThresholdError,
    AimlBillingTopUpStuckError,
    AimlBillingUnavailable,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.sandbox import Sandbox

MODULE = "airflow_provider_aimlbilling.retry_policy"
OLD = version("apache-airflow").startswith(("2.", "3.0.", "3.1.", "3.2."))
PROMPT = "a prompt that nobody else shall read"
CREDITS, FUNDS = "You've run out of credits.", "Your account has run out of funds, top it up"
NO_ROUTE = "This key may not use the route"


@pytest.fixture
def policy() -> Any:
    if OLD:
        pytest.skip("Airflow has no retry policies before 3.3")
    return importlib.import_module(MODULE).AimlApiRetryPolicy()


def ask(policy: Any, exception: BaseException) -> tuple[str, float | None]:
    decision = policy.evaluate(exception=exception, try_number=1, max_tries=3, context=None)
    return decision.action.value, decision.retry_delay and decision.retry_delay.total_seconds()


FAIL, RETRY, DEFAULT = ("fail", None), ("retry", None), ("default", None)


# Each client, made to fail as its users see it.
def by_requests(url: str) -> None:
    requests.get(url, headers={"Authorization": f"Bearer {KEY}"}, timeout=5).raise_for_status()


def by_httpx(url: str) -> None:
    httpx.get(url, headers={"Authorization": f"Bearer {KEY}"}, timeout=5).raise_for_status()


def by_urllib(url: str) -> None:
    urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": f"Bearer {KEY}"}), timeout=5)


def by_http_hook(url: str) -> None:
    """As HttpHook.check_response() does it."""
    from airflow.providers.common.compat.sdk import AirflowException

    response = requests.get(url, headers={"Authorization": f"Bearer {KEY}"}, timeout=5)
    try:
        response.raise_for_status()
    except requests.HTTPError:
        raise AirflowException(str(response.status_code) + ":" + response.reason)  # noqa: B904


class LikeOpenAI(Exception):  # noqa: N818
    """The attributes of openai.APIStatusError, where the client is not installed."""

    def __init__(self, response: httpx.Response) -> None:
        self.body = response.json()
        self.message = f"Error code: {response.status_code} - {self.body}"
        self.response, self.status_code = response, response.status_code
        super().__init__(self.message)


def by_openai(url: str) -> None:
    if find_spec("openai"):
        import openai

        openai.OpenAI(api_key=KEY, base_url=url, max_retries=0).models.list()
    try:
        by_httpx(url)
    except httpx.HTTPStatusError as error:
        raise LikeOpenAI(error.response) from None


CLIENTS = [by_requests, by_httpx, by_urllib, by_http_hook, by_openai]
each_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)


def failed(client: Callable[[str], None], sandbox: Sandbox, **fault: Any) -> Exception:
    sandbox.fail(**fault)
    with pytest.raises(Exception) as caught:  # each client has its own
        client(f"{sandbox.url}/v1")
    return caught.value


def linked(*chain: BaseException) -> BaseException:
    """Link exceptions as if each had been raised while the next was handled."""
    for place, inner in enumerate(chain[1:]):
        chain[place].__context__ = inner
    return chain[0]


def said(status: object = None, **attributes: Any) -> Exception:
    """Make an exception that carries a response, as no client in particular."""
    error = RuntimeError("the call failed")
    error.response = SimpleNamespace(status_code=status, **attributes)  # type: ignore[attr-defined]
    return error


def test_on_an_older_airflow_the_import_says_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.providers.common.compat import sdk

    monkeypatch.delitem(sdk._IMPORT_MAP, "RetryPolicy", raising=False)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    with pytest.raises(ImportError, match=r"needs Airflow 3\.3"):
        importlib.import_module(MODULE)


@each_client
@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (401, None, FAIL),
        (402, None, FAIL),
        (403, CREDITS, FAIL),
        (403, FUNDS, FAIL),
        (403, NO_ROUTE, FAIL),
        (408, None, RETRY),
        (429, None, RETRY),
        (500, None, RETRY),
        (503, None, RETRY),
        (400, None, DEFAULT),
        (404, None, DEFAULT),
        (422, CREDITS, DEFAULT),
    ],
)
def test_the_status_decides(
    policy: Any, sandbox: Sandbox, client: Any, status: int, message: str | None, expected: Any
) -> None:
    assert ask(policy, failed(client, sandbox, status=status, message=message)) == expected


@pytest.mark.parametrize("client", [client for client in CLIENTS if client is not by_urllib])  # it has no body to see
@pytest.mark.parametrize(
    ("message", "advice"), [(CREDITS, "top it up"), (FUNDS, "top it up"), (NO_ROUTE, "look at the key")]
)
def test_a_403_says_what_to_mend(policy: Any, sandbox: Sandbox, client: Any, message: str, advice: str) -> None:
    reason = policy.evaluate(failed(client, sandbox, status=403, message=message), 1, 3).reason
    assert advice in reason


@each_client
@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_retry_after_is_kept(policy: Any, sandbox: Sandbox, client: Any, status: int) -> None:
    assert ask(policy, failed(client, sandbox, status=status, retry_after=17)) == ("retry", 17)


def test_retry_after_may_be_a_date(policy: Any, sandbox: Sandbox) -> None:
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=100), usegmt=True)
    action, seconds = ask(policy, failed(by_requests, sandbox, status=429, retry_after=date))
    assert action == "retry"
    assert seconds == pytest.approx(100, abs=3)


@pytest.mark.parametrize("told", ["3601", "9" * 30, "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_an_hour_is_the_longest_delay(policy: Any, sandbox: Sandbox, told: str) -> None:
    assert ask(policy, failed(by_requests, sandbox, status=503, retry_after=told)) == ("retry", 3600)


@pytest.mark.parametrize(
    "told",
    [
        *("", "0", "-5", "soon", "nan", "inf", "1e3", "5, 10", "9" * 5000, "١٢", None, b"7"),
        *("Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 99 Foo 2026 99:99:99 GMT", "Fri, 01 Jan 99999999999 00:00:00 GMT"),
    ],
)
def test_a_header_that_tells_no_delay_leaves_the_task_its_own(policy: Any, told: Any) -> None:
    assert ask(policy, said(429, headers={"Retry-After": told})) == RETRY


@pytest.mark.parametrize("headers", [None, "Retry-After: 5", 5, ["retry-after", 5], {5: 5}])
def test_headers_that_are_none_leave_the_task_its_own(policy: Any, headers: Any) -> None:
    assert ask(policy, said(429, headers=headers)) == RETRY


@pytest.mark.parametrize("name", ["Retry-After", "retry-after", "RETRY-AFTER"])
def test_the_case_of_a_header_does_not_matter(policy: Any, name: str) -> None:
    assert ask(policy, said(429, headers={name: "5"})) == ("retry", 5)


@pytest.mark.parametrize("client", [by_requests, by_http_hook])
def test_an_error_that_was_wrapped_is_found(policy: Any, sandbox: Sandbox, client: Any) -> None:
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError("the job failed") from failed(client, sandbox, status=429, retry_after=9)
    assert ask(policy, caught.value) == ("retry", 9)


def test_an_error_that_was_hidden_is_found(policy: Any, sandbox: Sandbox) -> None:
    def job() -> None:
        try:
            raise failed(by_requests, sandbox, status=401)
        except requests.HTTPError:
            raise RuntimeError("the job failed, and no text of others is shown") from None

    with pytest.raises(RuntimeError) as caught:
        job()
    assert ask(policy, caught.value) == FAIL


def test_the_last_error_decides(policy: Any) -> None:
    assert ask(policy, linked(RuntimeError(), said(503), said(401))) == RETRY
    assert ask(policy, linked(said(404), said(401))) == DEFAULT


def test_the_delay_is_of_the_error_that_decides(policy: Any) -> None:
    assert ask(policy, linked(said(429), said(503, headers={"Retry-After": "5"}))) == RETRY


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("401:Unauthorized", FAIL),
        ("403:Forbidden", FAIL),
        ("503:Service Unavailable", RETRY),
        ("Unexpected error in the operation: 401:Unauthorized", FAIL),  # a deferred HttpOperator
        ("404:Not Found", DEFAULT),
        ("4010:x", DEFAULT),
        ("task 401: x", DEFAULT),
        ("٤٠١:x", DEFAULT),
        ("", DEFAULT),
    ],
)
def test_a_status_in_the_text_counts_in_errors_of_airflow(policy: Any, text: str, expected: Any) -> None:
    from airflow.providers.common.compat.sdk import AirflowException

    assert ask(policy, AirflowException(text)) == expected
    assert ask(policy, ValueError(text)) == DEFAULT


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InsufficientBalanceError("x"), FAIL),
        (AimlBillingAuthError("x"), FAIL),
        (AimlBillingConnectionError("x"), FAIL),
        (AimlBillingContractError("x"), FAIL),
        (AimlBillingThresholdError("x"), FAIL),
        (AimlBillingPricingError("x"), FAIL),
        (AimlBillingTopUpStuckError("x"), FAIL),
        (AimlBillingUnavailable("x", retry_after=30, status=429), ("retry", 30)),
        (AimlBillingUnavailable("x", retry_after=7200), ("retry", 3600)),
        (AimlBillingUnavailable("x", retry_after=0), RETRY),
        (AimlBillingUnavailable("x", status=400), RETRY),
        (AimlBillingError("x"), DEFAULT),
    ],
    ids=repr,
)
def test_errors_of_this_provider(policy: Any, error: Exception, expected: Any) -> None:
    assert ask(policy, error) == expected
    assert ask(policy, linked(RuntimeError(), error)) == expected


@pytest.mark.parametrize(("status", "expected"), [(403, FAIL), (401, FAIL), (503, ("retry", 40)), (404, FAIL)])
def test_errors_of_the_hook(policy: Any, sandbox: Sandbox, status: int, expected: Any) -> None:
    sandbox.fail(status=status, retry_after=40)
    with pytest.raises(AimlBillingError) as caught:
        AimlBillingHook(retries=0).get_balance()
    assert ask(policy, caught.value) == expected


@pytest.mark.parametrize(
    "error", [ValueError("out of credits"), KeyboardInterrupt(), SystemExit(401), requests.ConnectTimeout(), OSError()]
)
def test_all_else_is_left_to_the_task(policy: Any, error: BaseException) -> None:
    assert ask(policy, error) == DEFAULT


@pytest.mark.parametrize("status", [True, False, "401", 401.0, None, b"401", [401]])
def test_only_a_whole_number_is_a_status(policy: Any, status: Any) -> None:
    error = said(status)
    error.status_code = error.status = status  # type: ignore[attr-defined]
    assert ask(policy, error) == DEFAULT
    error.response.status = 401  # type: ignore[attr-defined]
    assert ask(policy, error) == FAIL


@pytest.mark.parametrize("holder", ["the exception", "the response"])
@pytest.mark.parametrize("name", ["status_code", "status"])
def test_where_a_status_is_looked_for(policy: Any, holder: str, name: str) -> None:
    error: Any = said()
    setattr(error if holder == "the exception" else error.response, name, HTTPStatus.UNAUTHORIZED)
    assert ask(policy, error) == FAIL


@pytest.mark.parametrize("place", ["body", "message", "response"])
@pytest.mark.parametrize("text", ["You have RUN OUT OF FUNDS", "run out of credits"])
def test_where_a_message_is_looked_for(policy: Any, place: str, text: str) -> None:
    error: Any = said(403)
    if place == "response":
        error.response.text = text
    else:
        setattr(error, place, {"error": {"message": text}} if place == "body" else text)
    assert "top it up" in policy.evaluate(error, 1, 3).reason


def test_an_answer_that_was_not_read_stays_unread(policy: Any, sandbox: Sandbox) -> None:
    """To read it now could take as long as the server likes, and nothing would end it."""
    sandbox.fail(status=403, body=b"x" * 100, drip=0.1)
    with requests.get(f"{sandbox.url}/v1", stream=True, timeout=5) as response:
        with pytest.raises(requests.HTTPError) as caught:
            response.raise_for_status()
        assert ask(policy, caught.value) == FAIL
        assert response._content is False  # type: ignore[attr-defined]


class Hostile(Exception):  # noqa: N818
    """Whatever it is asked for breaks."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(KEY)

    def __str__(self) -> str:
        raise RuntimeError(KEY)


class Broken:
    """A part of an exception that breaks when it is looked at."""

    __hash__ = None  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(KEY)

    def __str__(self) -> str:
        raise RuntimeError(KEY)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError(KEY)

    def __bool__(self) -> bool:
        raise RuntimeError(KEY)


def test_an_exception_that_breaks_when_it_is_read_changes_nothing(policy: Any) -> None:
    assert ask(policy, Hostile()) == DEFAULT


@pytest.mark.parametrize(("status", "expected"), [(401, FAIL), (403, FAIL), (429, RETRY), (503, RETRY), (404, DEFAULT)])
def test_what_is_broken_does_not_hide_the_status(policy: Any, status: int, expected: Any) -> None:
    error: Any = said(status, headers={"Retry-After": Broken()}, text=Broken())
    error.status_code = error.status = error.body = error.message = Broken()
    assert ask(policy, error) == expected


def test_a_chain_that_runs_in_a_circle_ends(policy: Any) -> None:
    first, second = ValueError(), KeyError()
    first.__context__, second.__cause__ = second, first
    assert ask(policy, first) == DEFAULT


def test_a_chain_is_followed_only_so_far(policy: Any) -> None:
    assert ask(policy, linked(*(ValueError() for _ in range(10)), said(401))) == FAIL
    assert ask(policy, linked(*(ValueError() for _ in range(100_000)), said(401))) == DEFAULT


@each_client
@pytest.mark.parametrize("status", [401, 402, 403, 429, 503])
def test_no_text_of_others_gets_out(
    policy: Any, sandbox: Sandbox, caplog: pytest.LogCaptureFixture, client: Any, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = f"{CREDITS} key {KEY}, {PROMPT}"
    error = failed(client, sandbox, status=status, message=echo, retry_after=5, headers={"X-Echo": KEY})
    caplog.clear()
    decision = policy.evaluate(error, 1, 3)
    assert f"HTTP {status}" in decision.reason
    assert KEY not in repr(decision)
    assert PROMPT not in repr(decision)
    assert not caplog.records


def test_another_policy_can_follow(policy: Any) -> None:
    from airflow.providers.common.compat.sdk import ChainRetryPolicy, ExceptionRetryPolicy, RetryAction, RetryRule

    rule = RetryRule(exception=Exception, action=RetryAction.RETRY, retry_delay=timedelta(seconds=8))
    chained = ChainRetryPolicy([policy, ExceptionRetryPolicy(rules=[rule])])
    assert ask(chained, said(401)) == FAIL
    assert ask(chained, said(404)) == ("retry", 8)


def test_what_serialize_gives_makes_the_policy_anew(policy: Any) -> None:
    again = type(policy).deserialize(json.loads(json.dumps(policy.serialize())))
    assert type(again) is type(policy)
    assert ask(again, said(401)) == FAIL


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda policy: pickle.loads(pickle.dumps(policy))])
def test_a_copy_decides_the_same(policy: Any, copied: Any) -> None:
    assert ask(copied(policy), said(401)) == FAIL


@pytest.mark.parametrize("given", ["task", "operator", "mapped", "default_args"])
def test_a_dag_with_it_serializes(policy: Any, given: str) -> None:
    """What the scheduler gets is that there is a policy; the worker has the DAG's file for the rest."""
    from airflow.providers.common.compat.sdk import DAG, BaseOperator, task
    from airflow.serialization.serialized_objects import DagSerialization

    def job(word: str = "") -> None: ...

    def dump() -> str:
        arguments = {"default_args": {"retry_policy": type(policy)()}} if given == "default_args" else {}
        with DAG("dag", schedule=None, **arguments) as dag:  # type: ignore[arg-type]
            if given == "task":
                task(retry_policy=type(policy)())(job)()
            elif given == "mapped":
                task(retry_policy=type(policy)())(job).expand(word=["one", "two"])
            else:
                BaseOperator(task_id="job", **({} if arguments else {"retry_policy": type(policy)()}))
        assert dag.get_task("job").retry_policy is not None
        return json.dumps(DagSerialization.to_dict(dag), sort_keys=True)

    dumped = dump()
    assert DagSerialization.from_dict(json.loads(dumped)).get_task("job").has_retry_policy is True
    assert "0x" not in dumped, "no address in memory, which would make each parsing a new version of the DAG"
    assert dumped == dump()


JOB = """
    from datetime import timedelta
    import requests
    from airflow_provider_aimlbilling.retry_policy import AimlApiRetryPolicy

    @task(task_id="gate", retries={retries}, retry_delay=timedelta(seconds={delay}), retry_policy={policy})
    def job():
        headers = {{"Authorization": "Bearer {key}"}}
        requests.get("{url}/v1/billing/balance", headers=headers, timeout=5).raise_for_status()

    job()
"""


@pytest.fixture
def run_job(policy: Any, run_dag: Any, sandbox: Sandbox) -> Callable[..., Any]:
    def run(*, retries: int, delay: float = 0, policy: str = "AimlApiRetryPolicy()") -> Any:
        return run_dag(JOB.format(retries=retries, delay=delay, policy=policy, key=KEY, url=sandbox.url))

    return run


@pytest.mark.parametrize(("policy_", "tries"), [("AimlApiRetryPolicy()", 1), ("None", 3)])
def test_in_a_run_a_refused_key_ends_the_retries(run_job: Any, sandbox: Sandbox, policy_: str, tries: int) -> None:
    sandbox.fail(status=401)
    run = run_job(retries=2, policy=policy_)
    assert run.state() == "failed"
    assert len(sandbox.requests) == tries


def test_in_a_run_retry_after_takes_the_place_of_the_retry_delay(run_job: Any, sandbox: Sandbox) -> None:
    sandbox.fail(status=429, retry_after=2, times=1)
    run = run_job(retries=1, delay=3600)
    assert run.state() == "success"
    first, second = (request.at for request in sandbox.requests)
    assert 1.9 <= second - first < 60


def test_in_a_run_retries_are_the_most_that_is_tried(run_job: Any, sandbox: Sandbox) -> None:
    sandbox.fail(status=503)
    assert run_job(retries=1).state() == "failed"
    assert len(sandbox.requests) == 2


def test_in_a_run_the_log_says_why(run_job: Any, sandbox: Sandbox) -> None:
    sandbox.fail(status=403, message=f"{CREDITS} {PROMPT}")
    run = run_job(retries=1)
    assert "HTTP 403: the account is out of credits: top it up" in run.log
    assert PROMPT not in run.log
