"""The hook: from an Airflow connection of type ``aimlbilling`` to the billing API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_aimlbilling.client.client import AimlBillingClient
from airflow_provider_aimlbilling.client.settings import (
    Settings,
)
from airflow_provider_aimlbilling.compat import BaseHook
from airflow_provider_aimlbilling.connection import read_settings, test_connection
from airflow_provider_aimlbilling.exceptions import AimlBillingError, InsufficientBalanceError
from airflow_provider_aimlbilling.get_provider_info import CONNECTION_TYPE, DEFAULT_CONN_ID, connection_form
from airflow_provider_aimlbilling.metrics import count_decision, gauge_balance

if TYPE_CHECKING:
    import requests

    from airflow_provider_aimlbilling.money.amount import Amount
    from airflow_provider_aimlbilling.money.balance import Balance, KeyLimit, TopUp
    from airflow_provider_aimlbilling.money.gate import Gate, Verdict
    from airflow_provider_aimlbilling.money.pricing import Pricing
    from airflow_provider_aimlbilling.money.request_log import LoggedRequest
    from airflow_provider_aimlbilling.money.runway import Runway
    from airflow_provider_aimlbilling.money.usage import Transaction, Usage


class AimlBillingHook(BaseHook):
    """
    Read the balance of an AI/ML API account, its prices, limits, ledger and usage.

    The API key is the connection's password. The connection may also set ``host`` (base URL) and, in its extra,
    ``timeout`` (seconds) and ``api_version`` (``v1`` or ``v2``). Requests are sent by an
    :class:`~airflow_provider_aimlbilling.client.client.AimlBillingClient`, which the hook creates with the first call.

    :param aimlbilling_conn_id: id of an Airflow connection of type ``aimlbilling``.
    :param retries: how often a call that got no believable answer is repeated, with exponential backoff, jitter and the
        API's ``Retry-After``. Use ``0`` if the caller itself polls.
    """

    conn_name_attr = "aimlbilling_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONNECTION_TYPE
    hook_name = "AI/ML API billing"

    def __init__(self, aimlbilling_conn_id: str = default_conn_name, *, retries: int = 3) -> None:
        super().__init__()
        self.aimlbilling_conn_id = aimlbilling_conn_id
        self.retries = retries
        self._client: AimlBillingClient | None = None
        self._look_up_again = False

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's extra fields for Airflow before 3.2, from the provider info."""
        from wtforms import StringField

        return {
            name: StringField(spec["label"], description=spec["description"])
            for name, spec in connection_form()["conn-fields"].items()
        }

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the form's labels and hidden fields for Airflow before 3.2, from the provider info."""
        behaviour: Mapping[str, Any] = connection_form()["ui-field-behaviour"]
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    def get_conn(self) -> requests.Session:
        """
        Return the session, which authenticates each request with the connection's key.

        :raises AimlBillingConnectionError: the connection is missing or invalid.
        """
        return self.client.session

    @property
    def client(self) -> AimlBillingClient:
        """
        The client for the connection. It is kept as long as the connection stays the same.

        :raises AimlBillingConnectionError: the connection is missing or invalid.
        """
        if self._client is not None and not self._look_up_again:
            return self._client
        try:
            settings = self._settings()
        except AimlBillingError as error:
            # Raised without the frames below: some logs print the locals of each frame, and there the key is a local.
            raise error.with_traceback(None) from None
        if self._client is None or self._client.settings != settings:
            self.close()
            self._client = AimlBillingClient(
                settings,
                retries=self.retries,
                on_balance=partial(gauge_balance, self.aimlbilling_conn_id),
                refresh=self._settings,
                log=self.log,
            )
        self._look_up_again = False
        return self._client

    def refresh_connection(self) -> None:
        """Look up the connection again before the next call: somebody may have fixed it or rotated its key."""
        self._look_up_again = True

    def close(self) -> None:
        """Close the session. The next call opens another."""
        if self._client is not None:
            self._client.close()
        self._client = None

    def get_balance(
        self,
        *,
        with_top_up: bool = False,
        respect_key_limit: bool = False,
        budget: object = None,
        top_up_grace: float | None = None,
        max_seconds: float | None = None,
    ) -> Balance:
        """
        Read the balance, in credits: see :meth:`AimlBillingClient.get_balance`.

        :param with_top_up: report whether the account tops itself up (:attr:`Balance.auto_debit_status`) on v2 too.
        :param respect_key_limit: also read what the key may still spend: :attr:`Balance.key_limit`.
        :param budget: also read what was spent of a budget, as :meth:`Budget.parse` reads it: :attr:`Balance.budget`.
        :param top_up_grace: also read the auto top-up, and whether it should have paid within these seconds and did
            not: :attr:`Balance.top_up`.
        :param max_seconds: time for all requests and retries together; ``None`` for no such limit.
        :raises AimlBillingConnectionError: the connection is missing or invalid.
        :raises AimlBillingAuthError: 401, or a 403 that does not say that the account is out of credits.
        :raises AimlBillingKeyDisabledError: the key is disabled, with ``respect_key_limit``.
        :raises AimlBillingContractError: JSON that is not as documented, a redirect, or any other status.
        :raises AimlBillingUnavailable: no believable answer, even after the retries.
        :raises InsufficientBalanceError: the account is overdrawn, or a 403 says that it is out of credits.
        """
        return self.client.get_balance(
            with_top_up=with_top_up,
            respect_key_limit=respect_key_limit,
            budget=budget,
            top_up_grace=top_up_grace,
            max_seconds=max_seconds,
        )

    def decide(self, gate: Gate, *, respect_key_limit: bool = False, budget: object = None) -> Verdict:
        """
        Read the balance and decide at once, as gates do that do not wait.

        :param gate: the rule.
        :param respect_key_limit: as in :meth:`get_balance`.
        :param budget: as in :meth:`get_balance`.
        :raises AimlBillingError: or a subclass, as in :meth:`get_balance`; but a lack of credits is a verdict.
        """
        verdict = gate.decide(self.read(respect_key_limit=respect_key_limit, budget=budget))
        if gate.warning:
            self.log.warning(gate.warning)
        self.report(verdict)
        return verdict

    def read(self, *, respect_key_limit: bool = False, budget: object = None) -> Balance | InsufficientBalanceError:
        """
        Read the balance for a decision.

        :param respect_key_limit: as in :meth:`get_balance`.
        :param budget: as in :meth:`get_balance`.
        :returns: the balance, or the API's refusal because the account is out of credits.
        :raises AimlBillingError: or a subclass, as in :meth:`get_balance`; but a lack of credits is returned.
        """
        try:
            return self.get_balance(respect_key_limit=respect_key_limit, budget=budget)
        except InsufficientBalanceError as refusal:
            return refusal

    def report(self, verdict: Verdict) -> None:
        """
        Log a decision, and count it in the metrics.

        :param verdict: the decision.
        """
        count_decision(self.aimlbilling_conn_id, clears=verdict.clears)
        self.log.info("%s: %s.", "Enough" if verdict.clears else "Not enough", verdict.reason)

    def get_key_limit(self) -> KeyLimit | None:
        """
        Read what the connection's key may spend and has spent: see :meth:`AimlBillingClient.get_key_limit`.

        :returns: the limit; ``None`` if the key has none.
        :raises AimlBillingError: or a subclass, as in :meth:`get_balance`.
        """
        return self.client.get_key_limit()

    def get_top_up(self) -> TopUp:
        """
        Read the auto top-up settings: see :meth:`AimlBillingClient.get_top_up`.

        :raises AimlBillingError: or a subclass, as in :meth:`get_balance`.
        """
        return self.client.get_top_up()

    def iter_transactions(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        direction: str | None = None,
        type: str | None = None,
    ) -> Iterator[Transaction]:
        """
        Iterate over the ledger, newest first: see :meth:`AimlBillingClient.iter_transactions`.

        :param start: only entries from this time on; with a time zone.
        :param end: only entries before this time; with a time zone.
        :param direction: ``TOPUP`` or ``CHARGE``.
        :param type: one of :data:`~airflow_provider_aimlbilling.money.usage.TRANSACTION_TYPES`.
        :raises ValueError: a time without a time zone, an empty window, or an unknown direction or type.
        :raises AimlBillingError: or a subclass, as in :meth:`get_balance`; a page is requested when it is needed.
        """
        return self.client.iter_transactions(start=start, end=end, direction=direction, type=type)

    def get_usage(
        self,
        *,
        start: datetime,
        end: datetime,
        by_model: bool = True,
        group_by: str | None = None,
        tz: str | None = None,
        key_prefix: str | None = None,
    ) -> Usage:
        """
        Read what the key spent: see :meth:`AimlBillingClient.get_usage`.

        :param start: start of the window; with a time zone.
        :param end: end of the window; with a time zone.
        :param by_model: also report spending by model.
        :param group_by: ``day``, ``model`` or ``day,model``, for :attr:`Usage.groups`; with ``by_model`` only.
        :param tz: IANA name of the time zone in which days begin and end, such as ``Europe/Berlin``.
        :param key_prefix: first eight characters of another key; the connection then needs a management key.
        :raises ValueError: a time without a time zone, or an end before its start.
        :raises AimlBillingError: or a subclass, as in :meth:`get_balance`.
        """
        return self.client.get_usage(
            start=start, end=end, by_model=by_model, group_by=group_by, tz=tz, key_prefix=key_prefix
        )

    def iter_requests(
        self, start: datetime, end: datetime | None = None, *, key_prefix: str | None = None
    ) -> Iterator[LoggedRequest]:
        """
        Iterate over the key's requests to models, newest first: see :meth:`AimlBillingClient.iter_requests`.

        :param start: start of the window; with a time zone.
        :param end: end of the window, not included; with a time zone. ``None`` for now, by the clock that is ahead.
        :param key_prefix: first eight characters of another key; the connection then needs a management key.
        :raises ValueError: a time without a time zone, or an end before its start.
        :raises AimlBillingError: or a subclass, as in :meth:`get_balance`; a page is requested when it is needed.
        """
        return self.client.iter_requests(start, end, key_prefix=key_prefix)

    def get_runway(self, *, tz: str = "UTC", earlier: tuple[datetime, Amount] | None = None) -> Runway:
        """
        Estimate how long the balance lasts: see :meth:`AimlBillingClient.get_runway`.

        :param tz: IANA name of the time zone in which days begin and end.
        :param earlier: when an earlier balance was read, and what it was, to include what other keys spend.
        :raises AimlBillingRunwayError: there is too little history, or nothing was spent.
        :raises ValueError: the time zone is unknown, or a time has none.
        :raises AimlBillingError: or another subclass, as in :meth:`get_balance`. Out of credits is a balance of 0.
        """
        return self.client.get_runway(tz=tz, earlier=earlier)

    def get_pricing(self, model: str, *, model_type: str | None = None) -> Pricing:
        """
        Read what one model costs from the live catalogue: see :meth:`AimlBillingClient.get_pricing`.

        :param model: id of the model, or one of its aliases.
        :param model_type: the endpoint type, such as ``openai/chat-completions``, if a model has several.
        :raises AimlBillingPricingError: no model is named, the catalogue does not have it, or has several of that name.
        :raises AimlBillingError: or another subclass, as in :meth:`get_balance`.
        """
        return self.client.get_pricing(model, model_type=model_type)

    def test_connection(self) -> tuple[bool, str]:
        """Read the balance and report the outcome, for the button in the UI and ``airflow connections test``."""
        works, message = test_connection(self)
        if works:
            print(message)  # the command line prints no message when a test succeeds, and turns logging off
        return works, message

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling, without the client, which holds the API key."""
        return {**self.__dict__, "_client": None}

    def _settings(self) -> Settings:
        return read_settings(self)
