"""
When to retry: a retry policy for any task that calls the AI/ML API. It needs Airflow 3.3 or later.

The decision is based on the exception and its chain (``__cause__``, ``__context__``), and uses the attributes that HTTP
clients have in common (openai, requests, httpx, aiohttp, ``HttpHook``). None of these clients is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_aimlbilling.exceptions import (
    AimlBillingAuthError,
    AimlBillingConnectionError,
    AimlBillingContractError,
    AimlBillingPricingError,
    AimlBillingRunwayError,
    AimlBillingThresholdError,
    AimlBillingTopUpStuckError,
    AimlBillingUnavailable,
    InsufficientBalanceError,
)

try:
    from airflow_provider_aimlbilling.compat import AirflowException, RetryDecision, RetryPolicy
except ImportError as missing:
    raise ImportError("AimlApiRetryPolicy needs Airflow 3.3 or later.") from missing

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.compat import Context

_MAX_MEMBERS = 100  # of exception groups
_MAX_CHAIN_LENGTH = 20  # exceptions; this also ends a circular chain
# HttpHook's exception has the status only in its text; HttpOperator adds words before it after a deferral.
_HTTP_HOOK_STATUS = re.compile(r"(?:Unexpected error in the operation: )?(\d{3}):", re.ASCII)
_PERMANENT_ERRORS = (
    AimlBillingConnectionError,
    AimlBillingContractError,
    AimlBillingPricingError,
    AimlBillingRunwayError,
    AimlBillingThresholdError,
    AimlBillingTopUpStuckError,
)

T = TypeVar("T")


class AimlApiRetryPolicy(RetryPolicy):
    """
    Stop retries that cannot succeed, on tasks that call the AI/ML API.

    The policy cannot see which service a failed call went to, so it treats any HTTP error as the API's. The first
    exception in the chain that has an HTTP status, or is one of this provider's own, decides:

    - 401, 402, 403: no retry. The vendor documents 401 as a refused key. It documents 403 both as "out of credits" and
      as "this key is not allowed to do this"; only the message distinguishes them, if the client keeps it. The task's
      log says which. For a 403 with a body that is not the API's own, such as a firewall's page, the task's own
      settings apply.
    - 408, 429, 5xx: retry, after ``Retry-After`` (seconds or a date, at most one hour) if the response has it,
      otherwise after the task's own ``retry_delay``.
    - everything else: the task's own settings apply.

    The number of retries never exceeds the task's ``retries``. The logged reasons are fixed texts with the status. They
    never contain a body or an exception's text, which may contain a key or a prompt.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """
        Decide whether and when to retry. It never raises: if it cannot decide, the task's own settings apply.

        :param exception: what the task failed with.
        :param try_number: not used; Airflow itself counts the tries.
        :param max_tries: not used.
        :param context: not used.
        """
        return _call_safely(_decide, exception) or RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        """Return a plain JSON dictionary. It only names the class, because the policy has no settings."""
        return {"__type": type(self).__name__}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> AimlApiRetryPolicy:  # noqa: ARG003 - Airflow's signature
        """
        Recreate the policy from what :meth:`serialize` returned.

        :param data: not used.
        """
        return cls()


def _decide(exception: BaseException) -> RetryDecision | None:
    """Return the decision. Of the members of an exception group, one that rules a retry out counts first."""
    decisions = [_decide_by_chain(member) for member in _members(exception)]
    decided = [decision for decision in decisions if decision is not None]
    final = [decision for decision in decided if decision.action == RetryDecision.fail("").action]
    return next(iter([*final, *decided]), None)


def _members(exception: BaseException) -> list[BaseException]:
    """Return an exception, and the members of all exception groups in its chain."""
    found: list[BaseException] = []
    waiting = [exception]
    while waiting and len(found) < _MAX_MEMBERS:
        member = waiting.pop(0)
        found.append(member)
        for link in _iter_chain(member):
            inner = _get(link, "exceptions")
            if isinstance(inner, tuple | list):
                waiting += [error for error in inner if isinstance(error, BaseException)]
    return found


def _decide_by_chain(exception: BaseException) -> RetryDecision | None:
    chain = list(_iter_chain(exception))
    for position, link in enumerate(chain):
        if isinstance(link, InsufficientBalanceError):
            return RetryDecision.fail("the account cannot pay: top it up")
        if isinstance(link, AimlBillingAuthError):
            return RetryDecision.fail("the API refused the key: replace the key")
        if isinstance(link, _PERMANENT_ERRORS):
            return RetryDecision.fail("a retry cannot succeed: the connection, the DAG or the account needs a fix")
        if isinstance(link, AimlBillingUnavailable):
            return _retry("no believable answer", _cap_delay(link.retry_after))
        if status := _call_safely(_status_of, link):
            # HttpHook's own exception only has the status; the one that it was raised from also has the response.
            same_status = [other for other in chain[position:] if _call_safely(_status_of, other) == status]
            return _decide_by_status(status, same_status)
    return None


def _iter_chain(link: Any) -> Iterator[BaseException]:
    for _ in range(_MAX_CHAIN_LENGTH):
        if not isinstance(link, BaseException):
            return
        yield link
        cause = _get(link, "__cause__")
        link = _get(link, "__context__") if cause is None else cause


def _status_of(link: BaseException) -> int | None:
    # Every AirflowException has a status_code, mostly 500, which belongs to Airflow's own API.
    is_airflow = isinstance(link, AirflowException)
    for holder in (None if is_airflow else link, _get(link, "response")):
        for name in ("status_code", "status"):
            status = _get(holder, name)
            if isinstance(status, int) and not isinstance(status, bool):
                return int(status)
    match = _HTTP_HOOK_STATUS.match(str(link)) if is_airflow else None
    return int(match[1]) if match else None


def _decide_by_status(status: int, links: Sequence[BaseException]) -> RetryDecision:
    from airflow_provider_aimlbilling.client.refusals import Refusal, classify_refusal

    bodies = [body for link in links for body in _call_safely(_bodies_of, link) or ()]
    refusals = {classify_refusal(status, body) for body in bodies or [None]}
    if Refusal.OUT_OF_CREDITS in refusals:
        return RetryDecision.fail(f"HTTP {status}: the account is out of credits: top it up")
    if Refusal.KEY_REFUSED in refusals:
        return RetryDecision.fail(f"HTTP {status}: the API refused the key: replace the key")
    # Some clients do not keep the body. If there is one that is not the API's, a firewall or proxy has answered.
    if Refusal.NOT_ALLOWED in refusals or (
        status == 403 and not any(_call_safely(_answers_of, link) for link in links)
    ):
        return RetryDecision.fail(
            "HTTP 403, and the message does not mention credits: check the key and its limit, then the balance"
        )
    if refusals & {Refusal.RATE_LIMITED, Refusal.UNAVAILABLE} and status <= 599:
        delays = (_call_safely(_retry_after, link) for link in links)
        return _retry(f"HTTP {status}", next(filter(None, delays), None))
    return RetryDecision.default()


def _retry(what: str, seconds: float | None) -> RetryDecision:
    if seconds is None:
        return RetryDecision.retry(reason=f"{what}: retry after the task's own delay")
    return RetryDecision.retry(timedelta(seconds=seconds), f"{what}: retry after {seconds:.0f} s, as the API asks")


def _answers_of(link: BaseException) -> list[str | bytes | Mapping[Any, Any]]:
    """Return what an exception has of the response's body."""
    response = _get(link, "response")
    # In requests this is False until the body has been read. Reading it now could take forever.
    text = None if _get(response, "_content") is False else _get(response, "text")
    return [body for body in (_get(link, "body"), text) if isinstance(body, str | bytes | Mapping) and body]


def _bodies_of(link: BaseException) -> list[object]:
    """Return what an exception has of the response's body or of its message, in any form."""
    bodies: list[object] = [*_answers_of(link), _get(link, "message")]
    # A text that is not JSON is at least a message.
    bodies += [{"message": text} for text in bodies if isinstance(text, str)]
    return [body for body in bodies if isinstance(body, str | bytes | Mapping)]


def _retry_after(link: BaseException) -> float | None:
    from urllib3.util import Retry

    headers = _get(_get(link, "response"), "headers")
    if headers is None:  # aiohttp and urllib keep them on the exception
        headers = link.headers  # type: ignore[attr-defined]
    lower_case = {str(name).lower(): str(value) for name, value in headers.items()}
    return _cap_delay(Retry().parse_retry_after(lower_case["retry-after"]))


def _cap_delay(seconds: float | None) -> float | None:
    """Limit a delay as the client does. Zero or less counts as none, because the task's own delay is a better guess."""
    from airflow_provider_aimlbilling.client.http import MAX_RETRY_AFTER

    return min(float(seconds), MAX_RETRY_AFTER) if seconds is not None and seconds > 0 else None


def _get(holder: object, name: str) -> Any:
    return _call_safely(getattr, holder, name, None)


def _call_safely(function: Callable[..., T], *arguments: Any) -> T | None:
    """Return ``None`` if the call raises: an exception may have any attribute, and each may be a failing property."""
    try:
        return function(*arguments)
    except Exception:  # noqa: BLE001 - the outcome of a task must not depend on it
        return None
