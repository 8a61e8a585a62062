"""The client: every endpoint of the billing API that this provider uses, with retries and limits. Needs no Airflow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import requests

from airflow_provider_aimlbilling.client import responses
from airflow_provider_aimlbilling.client.api import Api, body_or_raise
from airflow_provider_aimlbilling.client.catalogue import find_pricing
from airflow_provider_aimlbilling.client.json_fields import parse_object, require_field
from airflow_provider_aimlbilling.client.key_limit import read_key_limit
from airflow_provider_aimlbilling.client.ledger import iter_ledger, ledger_query
from airflow_provider_aimlbilling.client.request_log import RequestLog
from airflow_provider_aimlbilling.client.retries import with_retries
from airflow_provider_aimlbilling.client.runway import read_runway
from airflow_provider_aimlbilling.client.settings import NotCopyable, Settings
from airflow_provider_aimlbilling.client.spending import read_budget_use, read_spending
from airflow_provider_aimlbilling.client.top_up import DETAIL, TopUpMonitor
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingAuthError,
    AimlBillingContractError,
    AimlBillingPricingError,
    AimlBillingUnavailable,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.money.amount import Amount, Number
from airflow_provider_aimlbilling.money.balance import Balance, KeyLimit, TopUp
from airflow_provider_aimlbilling.money.budget import Budget
from airflow_provider_aimlbilling.money.pricing import Pricing
from airflow_provider_aimlbilling.money.request_log import LoggedRequest
from airflow_provider_aimlbilling.money.runway import Runway
from airflow_provider_aimlbilling.money.usage import Transaction, Usage

_BALANCE_READERS = {"v1": responses.read_balance_v1, "v2": responses.read_balance_v2}


class AimlBillingClient(NotCopyable):
    """
    A client for one key. It keeps one session; use it from one thread at a time.

    :param settings: key, base URL, timeout and API version.
    :param retries: how often a call that got no believable answer is repeated, with exponential backoff, jitter and the
        API's ``Retry-After``. Use ``0`` if the caller polls anyway.
    :param on_balance: called with each balance that was read, in credits; negative if the account is overdrawn.
    :param refresh: looks the settings up again. It is called once if the API refuses the key with a 401; if the result
        differs, the request is repeated with it.
    :param log: logger for problems that do not make a call fail, such as an auto top-up that cannot be read.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        retries: int = 3,
        on_balance: Callable[[Number], None] | None = None,
        refresh: Callable[[], Settings] | None = None,
        log: Any = None,
    ) -> None:
        self.retries = retries
        self._api = Api(settings, refresh)
        self._log = RequestLog(self._api)
        self._on_balance = on_balance
        self._top_up = TopUpMonitor(self._api, log or logging.getLogger(__name__))
        self._detail_failed = False  # if True, the balance no longer comes from /v2/billing/detail
        self._pricing_cache: dict[tuple[str, str | None], tuple[str, Pricing]] = {}  # (model, type) -> (ETag, pricing)

    @property
    def settings(self) -> Settings:
        """The settings that are used now."""
        return self._api.settings

    def __repr__(self) -> str:
        return f"<AimlBillingClient of {self.settings.base_url}>"

    @property
    def session(self) -> requests.Session:
        """
        The session, which authenticates each request with the key.

        :raises AimlBillingUnavailable: if the client was closed.
        """
        return self._api.session

    def close(self) -> None:
        """Close the session for good, and end a call that is running in another thread."""
        self._api.close()

    def time_limit(self, seconds: float) -> AbstractContextManager[None]:
        """Return a context in which all requests together may take some seconds."""
        return self._api.time_limit(seconds)

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
        Read the balance, in credits.

        v1: ``GET /v1/billing/balance`` (all fields). v2: ``GET /v2/billing`` (USD, converted to credits; other fields
        are ``None``).

        :param with_top_up: also report on v2 whether auto top-up is on (:attr:`Balance.auto_debit_status`). This uses
            ``GET /v2/billing/detail`` instead of ``GET /v2/billing``, until it fails once.
        :param respect_key_limit: also read what the key may still spend: :attr:`Balance.key_limit`. This takes one more
            request if the key has no limit, and two if it has one. A limit that never resets takes one, plus about four
            for each year of the key.
        :param budget: also read what the key has spent of a budget, as :meth:`Budget.parse` reads it:
            :attr:`Balance.budget`. This takes one more request. ``None`` for no budget.
        :param top_up_grace: also read the auto top-up (:attr:`Balance.top_up`), and report it as stuck if it has not
            paid for so many seconds. This takes one more request, and up to four for the ledger if the balance is below
            its threshold. It is ``None`` if that fails.
        :param max_seconds: time for all requests and retries together; ``None`` for no limit but the settings' timeout
            for each request.
        :raises AimlBillingAuthError: 401, or a 403 that does not say that the account is out of credits.
        :raises AimlBillingKeyDisabledError: the key is disabled, with ``respect_key_limit``.
        :raises AimlBillingContractError: JSON that is not as documented, a redirect, or any other status.
        :raises AimlBillingUnavailable: no believable answer, even after the retries.
        :raises AimlBillingBudgetError: the budget is not one.
        :raises InsufficientBalanceError: the account is overdrawn, or a 403 says that it is out of credits.
        """
        limit = None if budget is None else Budget.parse(budget)

        def read() -> Balance:
            try:
                balance = self._read_balance(with_top_up=with_top_up and top_up_grace is None)
            except InsufficientBalanceError as refusal:
                if refusal.overdrawn_credits is not None:
                    self._report(-refusal.overdrawn_credits)
                if top_up_grace is not None:
                    refusal.top_up = self._top_up.read(-(refusal.overdrawn_credits or 0), top_up_grace)
                raise
            self._report(balance.balance)
            if respect_key_limit:
                balance = replace(balance, key_limit=read_key_limit(self._api))
            if limit is not None:
                balance = replace(balance, budget=read_budget_use(self._api, limit))
            if top_up_grace is not None:
                balance = replace(balance, top_up=self._top_up.read(balance.balance, top_up_grace))
            return balance

        with self._api.time_limit(max_seconds):
            return with_retries(read, self.retries, self._api.deadline)

    def get_key_limit(self) -> KeyLimit | None:
        """
        Read what the key may spend and has spent: ``GET /v1/key`` and ``GET /v2/usage``.

        ``GET /v1/key`` describes the key that was used last, so the response counts only if it has this key's prefix.

        :returns: the limit; ``None`` if the key has none.
        :raises AimlBillingUnavailable: no answer, or only about another key, even after the retries.
        :raises AimlBillingKeyDisabledError: the key is disabled.
        :raises AimlBillingError: or another subclass, as in :meth:`get_balance`.
        """
        return with_retries(lambda: read_key_limit(self._api), self.retries)

    def get_top_up(self) -> TopUp:
        """
        Read the auto top-up settings: ``GET /v2/billing/detail``. Nothing else in that response is read.

        :raises AimlBillingError: or a subclass, as in :meth:`get_balance`.
        """
        return with_retries(lambda: responses.read_top_up(self._api.get(DETAIL)), self.retries)

    def iter_transactions(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        direction: str | None = None,
        type: str | None = None,
    ) -> Iterator[Transaction]:
        """
        Iterate over the whole ledger, newest entry first: ``GET /v2/billing/transactions``, page by page.

        :param start: only entries from this time on; with a time zone.
        :param end: only entries before this time; with a time zone.
        :param direction: ``TOPUP`` or ``CHARGE``.
        :param type: one of :data:`~airflow_provider_aimlbilling.money.usage.TRANSACTION_TYPES`.
        :raises ValueError: a time without a time zone, an empty window, or an unknown direction or type.
        :raises AimlBillingError: or a subclass, as in :meth:`get_balance`. Pages are requested on demand, so iterating
            can raise them too.
        """
        return iter_ledger(self._api, ledger_query(start, end, direction, type), self.retries)

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
        Read what the key spent: ``GET /v2/usage/detail``, or ``GET /v2/usage`` for the total only.

        A window longer than the 92 days that the API accepts is read in parts.

        :param start: start of the window; with a time zone.
        :param end: end of the window; with a time zone.
        :param by_model: also report spending by model.
        :param group_by: ``day``, ``model`` or ``day,model``, for :attr:`Usage.groups`; with ``by_model`` only.
        :param tz: IANA name of the time zone in which days begin and end, such as ``Europe/Berlin``.
        :param key_prefix: first eight characters of another key; the connection then needs a management key.
        :raises ValueError: a time without a time zone, or an end before its start.
        :raises AimlBillingError: or a subclass, as in :meth:`get_balance`.
        """
        options = {"group_by": group_by, "tz": tz, "key_prefix": key_prefix}
        return read_spending(self._api, self.retries, start, end, by_model, options)

    def iter_requests(
        self, start: datetime, end: datetime, *, key_prefix: str | None = None
    ) -> Iterator[LoggedRequest]:
        """
        Iterate over the key's requests to models, newest first: ``GET /v2/logs``. See :class:`RequestLog`.

        Each row comes once. One that lands late comes out of order, or not at all if its part was already read.

        :param start: start of the window; with a time zone.
        :param end: end of the window, not included; with a time zone.
        :param key_prefix: first eight characters of another key; the connection then needs a management key.
        :raises ValueError: a time without a time zone, or an end before its start.
        :raises AimlBillingError: or a subclass, as in :meth:`get_balance`; a page is requested when it is needed.
        """
        return self._log.iter_rows(start, end, self.retries, key_prefix)

    def get_runway(self, *, tz: str = "UTC", earlier: tuple[datetime, Amount] | None = None) -> Runway:
        """
        Estimate how long the balance lasts, from the key's spending on each of the last 28 complete days.

        :param tz: IANA name of the time zone in which days begin and end.
        :param earlier: when an earlier balance was read, and what it was: what left the account since then, top-ups
            considered, and is not this key's spending is added to the rates. This takes two more requests.
        :raises AimlBillingRunwayError: under a week of history, nothing spent, or an earlier balance of just now.
        :raises ValueError: the time zone is unknown, or a time has none.
        :raises AimlBillingError: or another subclass, as in :meth:`get_balance`. Out of credits is a balance of 0.
        """
        return read_runway(self, tz, earlier)

    def get_pricing(self, model: str, *, model_type: str | None = None) -> Pricing:
        """
        Read what one model costs from the live catalogue: ``GET /v1/models?id=…&include=pricing``.

        Repeated calls send the ``ETag``, so that an unchanged response is not transferred again.

        :param model: id of the model, or one of its aliases.
        :param model_type: the endpoint type, such as ``openai/chat-completions``, if a model has several.
        :raises AimlBillingPricingError: the name is empty, or the catalogue has no such model, or several.
        :raises AimlBillingError: or another subclass, as in :meth:`get_balance`.
        """
        if not isinstance(model, str) or not model.strip():
            raise AimlBillingPricingError(
                f"{model!r} is not the name of a model. Was the template that should provide it empty?"
            )
        return with_retries(lambda: self._read_pricing(model.strip(), model_type), self.retries)

    def _report(self, balance: Number) -> None:
        if self._on_balance is not None:
            self._on_balance(balance)

    def _read_balance(self, *, with_top_up: bool) -> Balance:
        if with_top_up and self.settings.api_version == "v2" and not self._detail_failed:
            try:
                return responses.read_balance_v2_detail(self._api.get(DETAIL))
            except (AimlBillingAuthError, AimlBillingContractError, AimlBillingUnavailable) as error:
                # The balance must not depend on /detail, which the key may not be allowed to read.
                self._detail_failed = True
                if getattr(error, "status", None) == 429:
                    raise
        body = self._api.get_balance()
        return _BALANCE_READERS[self.settings.api_version](body)  # a refreshed connection may have another version

    def _read_pricing(self, model: str, model_type: str | None) -> Pricing:
        etag, cached = self._pricing_cache.get((model, model_type), (None, None))
        response = self._api.get_if_changed("/v1/models", {"id": model, "include": "pricing"}, etag)
        now = datetime.now(timezone.utc)
        if cached and response.status == 304:
            return replace(cached, read_at=now)
        self._pricing_cache.pop((model, model_type), None)
        models = require_field(parse_object(body_or_raise(response, self.settings)), "data", list)
        pricing = find_pricing(models, model, model_type, now)
        if response.etag:
            self._pricing_cache[model, model_type] = response.etag, pricing
        return pricing
