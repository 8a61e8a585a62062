"""The one door to the network: from an Airflow connection of type ``aimlbilling`` to a :class:`Balance`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
from urllib3.util import Retry

from airflow_provider_aimlbilling.answers import read_refusal, read_v1, read_v2
from airflow_provider_aimlbilling.connection import EXTRAS, Settings, read_extra, wrong
from airflow_provider_aimlbilling.exceptions import AimlBillingConnectionError, AimlBillingError, AimlBillingUnavailable
from airflow_provider_aimlbilling.get_provider_info import CONNECTION_TYPE, DEFAULT_CONN_ID, connection_form
from airflow_provider_aimlbilling.transport import fetch, open_session

if TYPE_CHECKING:
    import requests
    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_aimlbilling.balance import Balance

# A longer Retry-After is not slept through inside a task; it is handed to whoever waits without holding a worker.
LONGEST_NAP = 30.0  # seconds

_READERS = {"v1": read_v1, "v2": read_v2}


class AimlBillingHook(BaseHook):
    """
    Read the balance of an AI/ML API account.

    The key is in the connection's password. ``host`` (base URL), and ``timeout`` (seconds) and ``api_version``
    (``v1`` or ``v2``) in its extra, may be set. One hook keeps one session.

    :param aimlbilling_conn_id: id of an Airflow connection of type ``aimlbilling``.
    :param retries: how often a call that got no believable answer is made again, with exponential backoff, jitter and
        the API's ``Retry-After``. ``0`` for callers that wait and ask again themselves.
    """

    conn_name_attr = "aimlbilling_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONNECTION_TYPE
    hook_name = "AI/ML API billing"

    def __init__(self, aimlbilling_conn_id: str = default_conn_name, *, retries: int = 3) -> None:
        super().__init__()
        self.aimlbilling_conn_id = aimlbilling_conn_id
        self.retries = retries
        self._open: tuple[Settings, requests.Session] | None = None

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Give the form's extra fields to Airflow before 3.2, from the declaration in the provider info."""
        from wtforms import StringField

        return {
            name: StringField(spec["label"], description=spec["description"])
            for name, spec in connection_form()["conn-fields"].items()
        }

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Give the form's labels and hidden fields to Airflow before 3.2, from the declaration in the provider info."""
        behaviour: Mapping[str, Any] = connection_form()["ui-field-behaviour"]
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    def get_conn(self) -> requests.Session:
        """
        Give the session, which authenticates every request with the connection's key.

        :raises AimlBillingConnectionError: if the connection is missing or wrong.
        """
        try:
            return self._opened()[1]
        except AimlBillingError as error:
            raise error.with_traceback(None) from None  # for the reason that get_balance gives

    def _opened(self) -> tuple[Settings, requests.Session]:
        if self._open is not None:
            return self._open
        try:
            connection = self.get_connection(self.aimlbilling_conn_id)
        except AirflowNotFoundException:
            raise self.connection_missing() from None
        return self.use_connection(connection)

    def use_connection(self, connection: Connection) -> tuple[Settings, requests.Session]:
        """
        Go on with what the connection says now. The session is kept as long as that stays the same.

        :param connection: the connection, for callers that had to look it up themselves (triggers).
        :raises AimlBillingConnectionError: if the connection is wrong.
        """
        settings = Settings.from_connection(connection)
        if self._open is None or self._open[0] != settings:
            self.close()
            self._open = settings, open_session(settings)
        return self._open

    def connection_missing(self) -> AimlBillingConnectionError:
        """Give the error for a connection id that Airflow does not know."""
        variable = f"AIRFLOW_CONN_{str(self.aimlbilling_conn_id).upper()}"
        return AimlBillingConnectionError(
            f"Airflow has no connection {self.aimlbilling_conn_id!r}, or cannot read it. Add one of type "
            f"{CONNECTION_TYPE!r} with the API key as its password, under Admin > Connections or as the environment "
            f"variable {variable}."
        )

    def close(self) -> None:
        """Close the session. The next call opens another."""
        if self._open is not None:
            self._open[1].close()
        self._open = None

    def get_balance(self) -> Balance:
        """
        Ask the API for the balance, in credits.

        v1: ``GET /v1/billing/balance`` (all fields). v2: ``GET /v2/billing`` (USD, turned into credits; the other
        fields are ``None``).

        :raises AimlBillingConnectionError: the connection is missing or wrong.
        :raises AimlBillingAuthError: 401, or 403 for another reason than used-up credits.
        :raises AimlBillingContractError: JSON that is not what the API promises, a redirect, any other status.
        :raises AimlBillingUnavailable: no believable answer, also after the retries.
        :raises InsufficientBalanceError: the account is overdrawn, or 403 and the API says that it is out of credits.
        """
        tries = Retry(total=self.retries, backoff_factor=0.5, backoff_jitter=0.5, backoff_max=LONGEST_NAP)
        while True:
            try:
                return self._ask()
            # Raised without the frames below: some logs print the locals of each frame, and there the key is a local.
            except AimlBillingUnavailable as fault:
                asked = fault.retry_after or 0.0
                if not tries.total or asked > LONGEST_NAP:
                    raise fault.with_traceback(None) from None
            except AimlBillingError as error:
                raise error.with_traceback(None) from None
            tries = tries.increment()
            time.sleep(max(asked, tries.get_backoff_time()))

    def _ask(self) -> Balance:
        settings, session = self._opened()
        answer = fetch(session, settings)
        if answer.status != 200:
            raise read_refusal(answer, settings)
        return _READERS[settings.api_version](answer.body)

    def test_connection(self) -> tuple[bool, str]:
        """Ask for the balance and say what came of it, for the button in the UI and ``airflow connections test``."""
        try:
            connection = self.get_connection(self.aimlbilling_conn_id)
            if unknown := sorted(set(read_extra(connection)) - set(EXTRAS)):
                raise wrong(
                    connection,
                    f"its extra holds {', '.join(map(repr, unknown))[:100]}; "
                    f"only {' and '.join(EXTRAS)} are known: remove it, or correct its spelling",
                )
            message = f"The key works. The account holds {self.get_balance().amount}."
        except AirflowNotFoundException:
            return False, str(self.connection_missing())
        except AimlBillingError as error:
            return False, str(error)
        except Exception as error:  # noqa: BLE001
            # Airflow shows this message unmasked, so no text that is not ours gets into it.
            return False, f"The test broke with {type(error).__name__}, which it should not: look for a newer version."
        else:
            # The command line prints no message of a test that succeeds, and turns logging off.
            print(message)
            return True, message
        finally:
            self.close()
