"""Retries for calls that got no believable answer, or an odd one: something in front of the API may have given it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TypeVar

from urllib3.util import Retry

from airflow_provider_aimlbilling.exceptions import AimlBillingContractError, AimlBillingError, AimlBillingUnavailable

# Do not sleep longer than this inside a task. The error carries a longer Retry-After to callers that can wait without a
# worker.
MAX_RETRY_SLEEP = 30.0  # seconds

T = TypeVar("T")


def with_retries(call: Callable[[], T], retries: int, deadline: float = math.inf) -> T:
    """
    Make a call, and repeat it if there was no believable answer, or one that is not as documented.

    Before each retry it waits with exponential backoff and jitter, or longer if the API's ``Retry-After`` says so.

    :param call: one request or several that belong together.
    :param retries: how often the call is repeated at most.
    :param deadline: by ``time.monotonic()``; no retry starts after it.
    :returns: what the call returned.
    :raises AimlBillingError: what the last call raised.
    """
    schedule = Retry(total=retries, backoff_factor=0.5, backoff_jitter=0.5, backoff_max=MAX_RETRY_SLEEP)
    while True:
        try:
            return call()
        # Raised without the frames below: some logs print the local variables of every frame, and the key is one of
        # them.
        except (AimlBillingUnavailable, AimlBillingContractError) as error:
            failure = error
            requested = getattr(error, "retry_after", None) or 0.0
            if not schedule.total or requested > MAX_RETRY_SLEEP:
                raise error.with_traceback(None) from None
        except AimlBillingError as error:
            raise error.with_traceback(None) from None
        schedule = schedule.increment()
        pause = max(requested, schedule.get_backoff_time())
        if time.monotonic() + pause >= deadline:
            raise failure.with_traceback(None) from None
        time.sleep(pause)
