"""The retry policy reads the errors of real HTTP clients, and survives any exception that it cannot read."""

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
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import requests
from support import AIRFLOW, KEY

from airflow_provider_aimlbilling import compat
from airflow_provider_aimlbilling.compat import AirflowException
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingAuthError,
    AimlBillingBudgetError,
    AimlBillingConnectionError,
    AimlBillingContractError,
    AimlBillingError,
    AimlBillingPricingError,
    AimlBillingRunwayError,
    AimlBillingThresholdError,
    AimlBillingTopUpStuckError,
    AimlBillingUnavailable,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.sandbox import Sandbox

MODULE = "airflow_provider_aimlbilling.retry_policy"
OLD = AIRFLOW.startswith(("2.", "3.0.", "3.1.", "3.2."))
PROMPT = "a prompt that must not be logged"
CREDITS, FUNDS = "You've run out of credits.", "Your account has run out of funds, top it up"
NO_ROUTE = "This key may not use the route"


@pytest.fixture
def policy() -> Any:
    if OLD:
        pytest.skip("Airflow has no retry policies before 3.3")
    return importlib.import_module(MODULE).AimlApiRetryPolicy()


def evaluate(policy: Any, exception: BaseException) -> tuple[str, float | None]:
    decision = policy.evaluate(exception=exception, try_number=1, max_tries=3, context=None)
    return decision.action.value, decision.retry_delay and decision.retry_delay.total_seconds()


FAIL, RETRY, DEFAULT = ("fail", None), ("retry", None), ("default", None)


# Each function makes one client fail the way its users see it.
def by_requests(url: str) -> None:
    requests.get(url, headers={"Authorization": f"Bearer {KEY}"}, timeout=5).raise_for_status()


def by_httpx(url: str) -> None:
    httpx.get(url, headers={"Authorization": f"Bearer {KEY}"}, timeout=5).raise_for_status()


def by_urllib(url: str) -> None:
    urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": f"Bearer {KEY}"}), timeout=5)


def by_http_hook(url: str) -> None:
    """Raise what HttpHook.check_response() raises."""
    response = requests.get(url, headers={"Authorization": f"Bearer {KEY}"}, timeout=5)
    try:
        response.raise_for_status()
    except requests.HTTPError:
        raise AirflowException(str(response.status_code) + ":" + response.reason)  # noqa: B904


class LikeOpenAI(Exception):  # noqa: N818
    """Has the attributes of openai.APIStatusError, for environments without openai."""

    def __init__(self, response: httpx.Response) -> None:
        self.body = response.json()
        self.message = f"Error code: {response.status_code} - {self.body}"
        self.response, self.status_code = response, response.status_code
        super().__init__(self.message)


def by_openai(url: str) -> None:
    if find_spec("openai"):
        import openai

        # Closed here: a client that is garbage-collected logs that it closes its connections, whenever that is.
        with openai.OpenAI(api_key=KEY, base_url=url, max_retries=0) as client:
            client.models.list()
    try:
        by_httpx(url)
    except httpx.HTTPStatusError as error:
        raise LikeOpenAI(error.response) from None


CLIENTS = [by_requests, by_httpx, by_urllib, by_http_hook, by_openai]
each_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)


def failed(client: Callable[[str], None], sandbox: Sandbox, **fault: Any) -> Exception:
    sandbox.fail(**fault)
    with pytest.raises(Exception) as caught:  # each client raises its own type
        client(f"{sandbox.url}/v1")
    return caught.value


def chain_errors(*chain: BaseException) -> BaseException:
    """Link exceptions as if each one had been raised while the next one was handled."""
    for place, inner in enumerate(chain[1:]):
        chain[place].__context__ = inner
    return chain[0]


def error_with_response(status: object = None, **attributes: Any) -> Exception:
    """Return an exception that carries a response and belongs to no particular client."""
    error = RuntimeError("the call failed")
    error.response = SimpleNamespace(status_code=status, **attributes)  # type: ignore[attr-defined]
    return error


def test_on_an_older_airflow_the_import_error_names_the_version_that_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(vars(compat), "RetryPolicy", raising=False)
    monkeypatch.setitem(compat._MODULES, "RetryPolicy", ())
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
def test_the_status_and_the_message_decide(
    policy: Any, sandbox: Sandbox, client: Any, status: int, message: str | None, expected: Any
) -> None:
    assert evaluate(policy, failed(client, sandbox, status=status, message=message)) == expected


@pytest.mark.parametrize("client", [client for client in CLIENTS if client is not by_urllib])  # its error has no body
@pytest.mark.parametrize(
    ("message", "advice"), [(CREDITS, "top it up"), (FUNDS, "top it up"), (NO_ROUTE, "check the key")]
)
def test_the_reason_for_a_403_says_what_to_fix(
    policy: Any, sandbox: Sandbox, client: Any, message: str, advice: str
) -> None:
    reason = policy.evaluate(failed(client, sandbox, status=403, message=message), 1, 3).reason
    assert advice in reason


@each_client
@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_retry_after_sets_the_delay(policy: Any, sandbox: Sandbox, client: Any, status: int) -> None:
    assert evaluate(policy, failed(client, sandbox, status=status, retry_after=17)) == ("retry", 17)


def test_retry_after_may_be_a_date(policy: Any, sandbox: Sandbox) -> None:
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=100), usegmt=True)
    action, seconds = evaluate(policy, failed(by_requests, sandbox, status=429, retry_after=date))
    assert action == "retry"
    assert seconds == pytest.approx(100, abs=3)


@pytest.mark.parametrize("header", ["3601", "9" * 30, "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_the_delay_is_one_hour_at_most(policy: Any, sandbox: Sandbox, header: str) -> None:
    assert evaluate(policy, failed(by_requests, sandbox, status=503, retry_after=header)) == ("retry", 3600)


@pytest.mark.parametrize(
    "header",
    [
        *("", "0", "-5", "soon", "nan", "inf", "1e3", "5, 10", "9" * 5000, "١٢", None, b"7"),
        *("Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 99 Foo 2026 99:99:99 GMT", "Fri, 01 Jan 99999999999 00:00:00 GMT"),
    ],
)
def test_an_unreadable_retry_after_leaves_the_task_its_own_delay(policy: Any, header: Any) -> None:
    assert evaluate(policy, error_with_response(429, headers={"Retry-After": header})) == RETRY


@pytest.mark.parametrize("headers", [None, "Retry-After: 5", 5, ["retry-after", 5], {5: 5}])
def test_unreadable_headers_leave_the_task_its_own_delay(policy: Any, headers: Any) -> None:
    assert evaluate(policy, error_with_response(429, headers=headers)) == RETRY


@pytest.mark.parametrize("name", ["Retry-After", "retry-after", "RETRY-AFTER"])
def test_header_names_are_case_insensitive(policy: Any, name: str) -> None:
    assert evaluate(policy, error_with_response(429, headers={name: "5"})) == ("retry", 5)


@pytest.mark.parametrize("client", [by_requests, by_http_hook])
def test_the_cause_of_an_error_is_read(policy: Any, sandbox: Sandbox, client: Any) -> None:
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError("the job failed") from failed(client, sandbox, status=429, retry_after=9)
    assert evaluate(policy, caught.value) == ("retry", 9)


def test_the_suppressed_context_of_an_error_is_read(policy: Any, sandbox: Sandbox) -> None:
    def job() -> None:
        try:
            raise failed(by_requests, sandbox, status=401)
        except requests.HTTPError:
            raise RuntimeError("the job failed") from None

    with pytest.raises(RuntimeError) as caught:
        job()
    assert evaluate(policy, caught.value) == FAIL


def test_the_first_error_in_the_chain_with_a_status_decides(policy: Any) -> None:
    assert evaluate(policy, chain_errors(RuntimeError(), error_with_response(503), error_with_response(401))) == RETRY
    assert evaluate(policy, chain_errors(error_with_response(404), error_with_response(401))) == DEFAULT


def test_the_delay_comes_from_the_error_that_decides(policy: Any) -> None:
    assert (
        evaluate(policy, chain_errors(error_with_response(429), error_with_response(503, headers={"Retry-After": "5"})))
        == RETRY
    )


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
def test_a_status_in_the_text_counts_only_in_airflow_exceptions(policy: Any, text: str, expected: Any) -> None:
    assert evaluate(policy, AirflowException(text)) == expected
    assert evaluate(policy, ValueError(text)) == DEFAULT


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InsufficientBalanceError("x"), FAIL),
        (AimlBillingAuthError("x"), FAIL),
        (AimlBillingConnectionError("x"), FAIL),
        (AimlBillingContractError("x"), FAIL),
        (AimlBillingThresholdError("x"), FAIL),
        (AimlBillingBudgetError("x"), FAIL),
        (AimlBillingPricingError("x"), FAIL),
        (AimlBillingRunwayError("x"), FAIL),
        (AimlBillingTopUpStuckError("x"), FAIL),
        (AimlBillingUnavailable("x", retry_after=30, status=429), ("retry", 30)),
        (AimlBillingUnavailable("x", retry_after=7200), ("retry", 3600)),
        (AimlBillingUnavailable("x", retry_after=0), RETRY),
        (AimlBillingUnavailable("x", status=400), RETRY),
        (AimlBillingError("x"), DEFAULT),
    ],
    ids=repr,
)
def test_each_error_of_this_provider_has_its_decision(policy: Any, error: Exception, expected: Any) -> None:
    assert evaluate(policy, error) == expected
    assert evaluate(policy, chain_errors(RuntimeError(), error)) == expected


@pytest.mark.parametrize(("status", "expected"), [(403, FAIL), (401, FAIL), (503, ("retry", 40)), (404, FAIL)])
def test_errors_raised_by_the_hook_are_understood(policy: Any, sandbox: Sandbox, status: int, expected: Any) -> None:
    sandbox.fail(status=status, retry_after=40)
    with pytest.raises(AimlBillingError) as caught:
        AimlBillingHook(retries=0).get_balance()
    assert evaluate(policy, caught.value) == expected


@pytest.mark.parametrize(
    "error", [ValueError("out of credits"), KeyboardInterrupt(), SystemExit(401), requests.ConnectTimeout(), OSError()]
)
def test_other_errors_are_left_to_the_settings_of_the_task(policy: Any, error: BaseException) -> None:
    assert evaluate(policy, error) == DEFAULT


@pytest.mark.parametrize("status", [True, False, "401", 401.0, None, b"401", [401]])
def test_only_an_integer_is_a_status(policy: Any, status: Any) -> None:
    error = error_with_response(status)
    error.status_code = error.status = status  # type: ignore[attr-defined]
    assert evaluate(policy, error) == DEFAULT
    error.response.status = 401  # type: ignore[attr-defined]
    assert evaluate(policy, error) == FAIL


@pytest.mark.parametrize("holder", ["the exception", "the response"])
@pytest.mark.parametrize("name", ["status_code", "status"])
def test_a_status_is_found_on_the_exception_and_on_its_response(policy: Any, holder: str, name: str) -> None:
    error: Any = error_with_response()
    setattr(error if holder == "the exception" else error.response, name, HTTPStatus.UNAUTHORIZED)
    assert evaluate(policy, error) == FAIL


@pytest.mark.parametrize("place", ["body", "message", "response"])
@pytest.mark.parametrize("text", ["You have RUN OUT OF FUNDS", "run out of credits"])
def test_a_message_is_found_on_the_exception_and_on_its_response(policy: Any, place: str, text: str) -> None:
    error: Any = error_with_response(403)
    if place == "response":
        error.response.text = text
    else:
        setattr(error, place, {"error": {"message": text}} if place == "body" else text)
    assert "top it up" in policy.evaluate(error, 1, 3).reason


def test_an_unread_response_stays_unread(policy: Any, sandbox: Sandbox) -> None:
    """Reading it now could block for as long as the server likes."""
    sandbox.fail(status=403, body=b"x" * 100, drip=0.1)
    with requests.get(f"{sandbox.url}/v1", stream=True, timeout=5) as response:
        with pytest.raises(requests.HTTPError) as caught:
            response.raise_for_status()
        assert evaluate(policy, caught.value) == FAIL
        assert response._content is False  # type: ignore[attr-defined]


class Hostile(Exception):  # noqa: N818
    """Raises on any access."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(KEY)

    def __str__(self) -> str:
        raise RuntimeError(KEY)


class Broken:
    """Part of an exception that raises on any access."""

    __hash__ = None  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(KEY)

    def __str__(self) -> str:
        raise RuntimeError(KEY)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError(KEY)

    def __bool__(self) -> bool:
        raise RuntimeError(KEY)


def test_an_exception_that_raises_when_read_is_left_to_the_task(policy: Any) -> None:
    assert evaluate(policy, Hostile()) == DEFAULT


@pytest.mark.parametrize(("status", "expected"), [(401, FAIL), (403, FAIL), (429, RETRY), (503, RETRY), (404, DEFAULT)])
def test_broken_attributes_do_not_hide_the_status(policy: Any, status: int, expected: Any) -> None:
    error: Any = error_with_response(status, headers={"Retry-After": Broken()}, text=Broken())
    error.status_code = error.status = error.body = error.message = Broken()
    assert evaluate(policy, error) == expected


def test_a_circular_chain_ends(policy: Any) -> None:
    first, second = ValueError(), KeyError()
    first.__context__, second.__cause__ = second, first
    assert evaluate(policy, first) == DEFAULT


def test_a_long_chain_is_followed_up_to_a_limit(policy: Any) -> None:
    assert evaluate(policy, chain_errors(*(ValueError() for _ in range(10)), error_with_response(401))) == FAIL
    assert evaluate(policy, chain_errors(*(ValueError() for _ in range(100_000)), error_with_response(401))) == DEFAULT


@each_client
@pytest.mark.parametrize("status", [401, 402, 403, 429, 503])
def test_the_decision_never_repeats_text_from_the_response(
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


def test_another_policy_can_be_chained_after_it(policy: Any) -> None:
    from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy, RetryAction, RetryRule

    rule = RetryRule(exception=Exception, action=RetryAction.RETRY, retry_delay=timedelta(seconds=8))
    chained = chain_policies(policy, ExceptionRetryPolicy(rules=[rule]))
    assert evaluate(chained, error_with_response(401)) == FAIL
    assert evaluate(chained, error_with_response(404)) == ("retry", 8)


def chain_policies(*policies: Any) -> Any:
    """Return common-compat's ChainRetryPolicy, or a policy that does the same where common-compat is too old."""
    try:
        from airflow.providers.common.compat.sdk import ChainRetryPolicy
    except ImportError:

        class ChainRetryPolicy(compat.RetryPolicy):  # type: ignore[no-redef]
            def __init__(self, policies: Any) -> None:
                self.policies = policies

            def evaluate(self, *args: Any, **kwargs: Any) -> Any:
                decisions = (policy.evaluate(*args, **kwargs) for policy in self.policies)
                no_decision = compat.RetryDecision.default()
                return next((each for each in decisions if each.action is not no_decision.action), no_decision)

    return ChainRetryPolicy(list(policies))


def test_a_serialized_policy_can_be_restored(policy: Any) -> None:
    restored = type(policy).deserialize(json.loads(json.dumps(policy.serialize())))
    assert type(restored) is type(policy)
    assert evaluate(restored, error_with_response(401)) == FAIL


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda policy: pickle.loads(pickle.dumps(policy))])
def test_a_copy_decides_like_the_original(policy: Any, copied: Any) -> None:
    assert evaluate(copied(policy), error_with_response(401)) == FAIL


@pytest.mark.parametrize("given", ["task", "operator", "mapped", "default_args"])
def test_a_dag_with_the_policy_serializes_the_same_each_time(policy: Any, given: str) -> None:
    """The scheduler only learns that there is a policy. The worker reads the rest from the DAG file."""
    from airflow.sdk import DAG, BaseOperator, task
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
    assert "0x" not in dumped, "a memory address would make a new DAG version at each parse"
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
def test_in_a_run_a_refused_key_stops_the_retries(run_job: Any, sandbox: Sandbox, policy_: str, tries: int) -> None:
    sandbox.fail(status=401)
    run = run_job(retries=2, policy=policy_)
    assert run.state() == "failed"
    assert len(sandbox.requests) == tries


def test_in_a_run_retry_after_replaces_the_retry_delay(run_job: Any, sandbox: Sandbox) -> None:
    sandbox.fail(status=429, retry_after=2, times=1)
    run = run_job(retries=1, delay=3600)
    assert run.state() == "success"
    first, second = (request.at for request in sandbox.requests)
    assert 1.9 <= second - first < 60


def test_in_a_run_the_policy_never_exceeds_the_retries_of_the_task(run_job: Any, sandbox: Sandbox) -> None:
    sandbox.fail(status=503)
    assert run_job(retries=1).state() == "failed"
    assert len(sandbox.requests) == 2


def test_in_a_run_the_log_gives_the_reason(run_job: Any, sandbox: Sandbox) -> None:
    sandbox.fail(status=403, message=f"{CREDITS} {PROMPT}")
    run = run_job(retries=1)
    assert "HTTP 403: the account is out of credits: top it up" in run.log
    assert PROMPT not in run.log
