"""
What can go wrong, named for what one can do about it.

.. code-block:: text

    AimlBillingError(Exception)
    ├── AimlBillingConnectionError   the connection in Airflow is wrong         -> mend the connection
    ├── AimlBillingThresholdError    the threshold in the DAG is wrong          -> mend the DAG
    ├── AimlBillingPricingError      the job cannot be priced                   -> mend the DAG, or set a threshold
    ├── AimlBillingAuthError         the API refused the key                    -> mend the key
    │   └── AimlBillingKeyDisabledError  it is switched off                     -> switch it on, or use another
    ├── AimlBillingContractError     not what the API promises                  -> update, or switch v1/v2
    ├── AimlBillingUnavailable       no answer that can be believed             -> wait
    ├── AimlBillingTopUpStuckError   auto top-up is on and does not pay         -> look at the means of payment
    └── InsufficientBalanceError     the account cannot pay                     -> top up

They do not extend ``AirflowException``: once a sensor has been deferred, Airflow lets ``soft_fail`` skip on *any*
``AirflowException``. A rejected key would then look like a skipped task, and nobody would mend it.

No message of these errors holds the API key or a part of it.
"""

from __future__ import annotations

from typing import Any


class AimlBillingError(Exception):
    """Whatever this provider raises of its own."""


class AimlBillingConnectionError(AimlBillingError):
    """The Airflow connection is missing or wrong: no key, bad host, plain http, unknown ``api_version``."""


class AimlBillingThresholdError(AimlBillingError, ValueError):
    """The threshold is no sum of money that this provider understands."""


class AimlBillingPricingError(AimlBillingError, ValueError):
    """The job has no exact price: a variable price, an unknown model, unit or variant. The message lists the known."""


class AimlBillingAuthError(AimlBillingError):
    """The API refused the key: 401, or a 403 that does not speak of used-up credits."""


class AimlBillingKeyDisabledError(AimlBillingAuthError):
    """The key is switched off in the vendor's settings. Only gates that respect the key's limit look at it."""


class AimlBillingContractError(AimlBillingError):
    """The API answered, but not what it promises: a wrong field, a redirect, 400, 404, 410 and their like."""


class AimlBillingUnavailable(AimlBillingError):  # noqa: N818 - a state of the API, not a mistake
    """
    No answer that can be believed: time-out, reset, DNS, TLS, 429, 5xx, or a body that is no JSON.

    It says nothing about the balance: neither "enough" nor "too little".

    :param retry_after: seconds that the API asked to wait (its ``Retry-After``, cut to an hour), ``None`` where it
        did not say.
    :param status: HTTP status, ``None`` where there was no answer.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.status = status


class AimlBillingTopUpStuckError(AimlBillingError):
    """Auto top-up is on, the balance has long been below its mark, and no payment came: waiting is hopeless."""


class InsufficientBalanceError(AimlBillingError):
    """
    The account cannot pay: its balance is below the threshold, or the API says that it is out of credits.

    ``overdrawn_credits`` is by how much, where the API gave a negative balance.
    ``top_up`` is the account's auto top-up (:class:`~airflow_provider_aimlbilling.balance.TopUp`), where it was asked.
    """

    overdrawn_credits: Any = None
    top_up: Any = None
