"""
When to try again: a retry policy for any task that calls the AI/ML API. It needs Airflow 3.3.

What decides is read from the exception and from those it was raised from, by the attributes that HTTP clients share
(openai, requests, httpx, aiohttp, ``HttpHook``). None of these clients is imported.
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
    AimlBillingThresholdError,
    AimlBillingTopUpStuckError,
    AimlBillingUnavailable,
    InsufficientBalanceError,
)

try:
    from airflow.providers.common.compat.sdk import AirflowException, RetryDecision, RetryPolicy
except ImportError as missing:
    raise ImportError(
        "AimlApiRetryPolicy needs Airflow 3.3 or newer, and apache-airflow-providers-common-compat 1.20 or newer there."
    ) from missing

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_LONGEST_CHAIN = 20  # exceptions; this also ends a chain that runs in a circle
# HttpHook has the status in its text alone; HttpOperator puts words before it when it was deferred.
_HTTP_HOOK_SAYS = re.compile(r"(?:Unexpected error in the operation: )?(\d{3}):", re.ASCII)
_WRONG_SET_UP = (
    AimlBillingConnectionError,
    AimlBillingContractError,
    AimlBillingPricingError,
    AimlBillingThresholdError,
    AimlBillingTopUpStuckError,
)

T = TypeVar("T")


class AimlApiRetryPolicy(RetryPolicy):
    """
    Spends a task's retries on what passes by itself: put it on tasks that call the AI/ML API.

    Whom a failed call was for cannot be seen, so any HTTP error is taken for the API's. The first exception in the
    chain that tells an HTTP status, or is one of this provider's, decides:

    - 401, 402, 403: no retry. The vendor documents 401 as a refused key, and 403 both as used-up credits and as a key
      that may not do this; its message tells them apart, where the client keeps it. The task's log says which.
    - 408, 429, 5xx: retry, after ``Retry-After`` (seconds or a date, an hour at most) where the answer has one, else
      after the task's own ``retry_delay``.
    - all else: as the task's own settings say.

    A retry never goes beyond the task's ``retries``. Reasons are fixed text with the status; neither a body nor an
    exception's text is in them, as these may hold a key or a prompt.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """
        Decide whether and when to try again. It never raises: what it cannot read is left to the task's own settings.

        :param exception: what the task failed with.
        :param try_number: not looked at; Airflow itself counts the tries.
        :param max_tries: not looked at.
        :param context: not looked at.
        """
        return _quietly(_decide, exception) or RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        """Give a plain JSON dictionary. There is nothing to keep: the policy has no settings."""
        return {"__type": type(self).__name__}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> AimlApiRetryPolicy:  # noqa: ARG003 - Airflow's signature
        """
        Read back what :meth:`serialize` gave.

        :param data: not looked at.
        """
        return cls()


def _decide(exception: BaseException) -> RetryDecision | None:
    chain = list(_chain(exception))
    for place, link in enumerate(chain):
        if isinstance(link, InsufficientBalanceError):
            return RetryDecision.fail("the account cannot pay: top it up")
        if isinstance(link, AimlBillingAuthError):
            return RetryDecision.fail("the API refused the key: mend the key")
        if isinstance(link, _WRONG_SET_UP):
            return RetryDecision.fail("no retry mends this: the connection, the DAG or the account is wrong")
        if isinstance(link, AimlBillingUnavailable):
            return _again("no answer that can be believed", _limited(link.retry_after))
        if status := _quietly(_status, link):
            # HttpHook's own exception has only the status; the one that it was raised from has the answer too.
            return _judge(status, [other for other in chain[place:] if _quietly(_status, other) == status])
    return None


def _chain(link: Any) -> Iterator[BaseException]:
    for _ in range(_LONGEST_CHAIN):
        if not isinstance(link, BaseException):
            return
        yield link
        cause = _read(link, "__cause__")
        link = _read(link, "__context__") if cause is None else cause


def _status(link: BaseException) -> int | None:
    # Every AirflowException has a status_code, mostly 500, which is of Airflow's own API.
    of_airflow = isinstance(link, AirflowException)
    for holder in (None if of_airflow else link, _read(link, "response")):
        for name in ("status_code", "status"):
            status = _read(holder, name)
            if isinstance(status, int) and not isinstance(status, bool):
                return int(status)
    said = _HTTP_HOOK_SAYS.match(str(link)) if of_airflow else None
    return int(said[1]) if said else None


def _judge(status: int, links: Sequence[BaseException]) -> RetryDecision:
    if status == 401:
        return RetryDecision.fail("HTTP 401: the API refused the key: mend the key")
    if status == 402 or (status == 403 and any(_quietly(_out_of_credits, link) for link in links)):
        return RetryDecision.fail(f"HTTP {status}: the account is out of credits: top it up")
    if status == 403:
        # Not more than that is known: some clients do not keep the message.
        return RetryDecision.fail(
            "HTTP 403: no word of credits was seen: look at the key and its limit, then the balance"
        )
    if status in (408, 429) or 500 <= status <= 599:
        told = (_quietly(_retry_after, link) for link in links)
        return _again(f"HTTP {status}", next(filter(None, told), None))
    return RetryDecision.default()


def _again(what: str, seconds: float | None) -> RetryDecision:
    if seconds is None:
        return RetryDecision.retry(reason=f"{what}: try again after the task's own delay")
    return RetryDecision.retry(timedelta(seconds=seconds), f"{what}: try again after {seconds:.0f} s, as it asks")


def _out_of_credits(link: BaseException) -> bool:
    from airflow_provider_aimlbilling.answers import OUT_OF_MONEY

    response = _read(link, "response")
    said = [_read(link, "body"), _read(link, "message")]
    # requests keeps False here until a body was read. To read it now could take for ever.
    if _read(response, "_content") is not False:
        said.append(_read(response, "text"))
    return any(OUT_OF_MONEY.search(str(text)) for text in said if isinstance(text, str | bytes | Mapping))


def _retry_after(link: BaseException) -> float | None:
    from urllib3.util import Retry

    headers = _read(_read(link, "response"), "headers")
    if headers is None:  # aiohttp and urllib keep them on the exception
        headers = link.headers  # type: ignore[attr-defined]
    told = {str(name).lower(): str(value) for name, value in headers.items()}
    return _limited(Retry().parse_retry_after(told["retry-after"]))


def _limited(seconds: float | None) -> float | None:
    """Cut to what the hook keeps. Nothing to wait is no wish: the task's own delay is the better guess."""
    from airflow_provider_aimlbilling.transport import LONGEST_RETRY_AFTER

    return min(float(seconds), LONGEST_RETRY_AFTER) if seconds is not None and seconds > 0 else None


def _read(holder: object, name: str) -> Any:
    return _quietly(getattr, holder, name, None)


def _quietly(function: Callable[..., T], *arguments: Any) -> T | None:
    """Call what must not raise: an exception may have any attribute, and each may be a property that fails."""
    try:
        return function(*arguments)
    except Exception:  # noqa: BLE001 - the outcome of a task must not hang on it
        return None
