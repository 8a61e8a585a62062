"""
Errors of this provider, named for what you can do about them.

.. code-block:: text

    AimlBillingError(Exception)
    ├── AimlBillingConnectionError       the Airflow connection is invalid         -> fix the connection
    ├── AimlBillingThresholdError        the threshold in the DAG is invalid       -> fix the DAG
    │   └── AimlBillingBudgetError       the budget in the DAG is invalid          -> fix the DAG
    ├── AimlBillingPricingError          the job cannot be priced                  -> fix the DAG, or set a threshold
    ├── AimlBillingRunwayError           how long the money lasts is unknown       -> wait, or set a threshold
    ├── AimlBillingAuthError             the API refused the key                   -> replace the key
    │   └── AimlBillingKeyDisabledError  the key is disabled                       -> enable it, or use another one
    ├── AimlBillingContractError         the answer is not what the API documents  -> update, or switch v1/v2
    ├── AimlBillingUnavailable           no believable answer                      -> wait
    ├── AimlBillingTopUpStuckError       auto top-up is on but does not pay        -> check the payment method
    └── InsufficientBalanceError         the account cannot pay                    -> top up

They do not extend ``AirflowException``: once a sensor has been deferred, Airflow lets ``soft_fail`` skip on *any*
``AirflowException``. A refused key would then look like a skipped task, and nobody would fix it.

No message of these errors contains the API key or a part of it.
"""

from __future__ import annotations

from typing import Any


class AimlBillingError(Exception):
    """Base class of all errors that this provider raises."""


class AimlBillingConnectionError(AimlBillingError):
    """
    The Airflow connection is missing or invalid: no key, bad host, plain http, unknown ``api_version``.

    ``missing`` tells whether Airflow did not find it. A secrets backend that is away looks the same to Airflow.
    """

    missing = False


class AimlBillingThresholdError(AimlBillingError, ValueError):
    """The threshold is not an amount of money that this provider understands."""


class AimlBillingBudgetError(AimlBillingThresholdError):
    """The budget is not an amount per period that this provider understands, or its time zone is unknown."""


class AimlBillingPricingError(AimlBillingError, ValueError):
    """The job has no exact price: a variable price, an unknown model, unit or variant. The message lists known ones."""


class AimlBillingRunwayError(AimlBillingError, ValueError):
    """How long the money lasts is unknown: under a week of history, nothing spent, or an impossible number of days."""


class AimlBillingAuthError(AimlBillingError):
    """The API refused the key: 401, or a 403 that does not say that the account is out of credits."""


class AimlBillingKeyDisabledError(AimlBillingAuthError):
    """The key is disabled in the vendor's settings. Only gates with ``respect_key_limit`` check this."""


class AimlBillingContractError(AimlBillingError):
    """The API answered, but not as documented: an invalid field, a redirect, a 400, 404 or 410."""


class AimlBillingUnavailable(AimlBillingError):  # noqa: N818 - a state of the API, not a mistake
    """
    No believable answer: timeout, reset, DNS, TLS, 429, 5xx, or a body that is not JSON.

    It says nothing about the balance: neither "enough" nor "too little".

    :param message: what happened and what to do about it.
    :param retry_after: seconds that the API asked to wait (its ``Retry-After``, capped at one hour); ``None`` if it
        did not say.
    :param status: HTTP status; ``None`` if there was no answer.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.status = status


class AimlBillingTopUpStuckError(AimlBillingError):
    """Auto top-up is on, the balance has been below its threshold for a while, and no payment arrived."""


class InsufficientBalanceError(AimlBillingError):
    """
    The job must not run: the balance, what the key may spend or what is left of the budget is below the threshold, or
    the API says that the account is out of credits.

    ``overdrawn_credits`` is the amount owed in credits, if the API reported a negative balance.
    ``top_up`` is the account's auto top-up (:class:`~airflow_provider_aimlbilling.money.balance.TopUp`), if it was
    requested.
    """

    overdrawn_credits: Any = None
    top_up: Any = None
