"""The one door to the network: from an Airflow connection of type ``aimlbilling`` to what the billing API knows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
from urllib3.util import Retry

from airflow_provider_aimlbilling import account
from airflow_provider_aimlbilling.account import DIRECTIONS, TYPES, Transaction, Usage
from airflow_provider_aimlbilling.answers import field_of, read_object, read_refusal, read_v1, read_v2
from airflow_provider_aimlbilling.balance import KeyLimit, Number, TopUp
from airflow_provider_aimlbilling.connection import EXTRAS, Settings, read_extra, wrong
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingAuthError,
    AimlBillingConnectionError,
    AimlBillingContractError,
    AimlBillingError,
    AimlBillingKeyDisabledError,
    AimlBillingPricingError,
    AimlBillingUnavailable,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.get_provider_info import CONNECTION_TYPE, DEFAULT_CONN_ID, connection_form
from airflow_provider_aimlbilling.metrics import count_decision, gauge_balance
from airflow_provider_aimlbilling.pricing import Pricing
from airflow_provider_aimlbilling.transport import MAX_BODY, MAX_USAGE, fetch, open_session

if TYPE_CHECKING:
    import requests
    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_aimlbilling.answers import Answer
    from airflow_provider_aimlbilling.balance import Balance, Gate, Verdict

# A longer Retry-After is not slept through inside a task; it is handed to whoever waits without holding a worker.
LONGEST_NAP = 30.0  # seconds

# What is read of the ledger to see whether an auto top-up is stuck, at each poll.
MOST_ENTRIES = 300

_READERS = {"v1": read_v1, "v2": read_v2}
_DETAIL = "/v2/billing/detail"

T = TypeVar("T")
_Page = tuple[list[Transaction], str | None]


class AimlBillingHook(BaseHook):
    """
    Read the balance of an AI/ML API account, its prices, limits, ledger and usage.

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
        self._said_unknown = False
        self._top_up_not_before = 0.0  # time.monotonic() until which the API asked to be left in peace about it
        self._no_detail: Settings | None = None
        self._prices: dict[tuple[str, str, str | None], tuple[str, Pricing]] = {}  # with the ETag of each

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
        if variable in os.environ:
            return AimlBillingConnectionError(
                f"Airflow cannot read the connection {self.aimlbilling_conn_id!r}: the environment variable {variable} "
                "holds no valid JSON or URI. In a URI the key must be URL-encoded; in JSON it is the password."
            )
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

    def get_balance(
        self, *, with_top_up: bool = False, respect_key_limit: bool = False, top_up_grace: float | None = None
    ) -> Balance:
        """
        Ask the API for the balance, in credits.

        v1: ``GET /v1/billing/balance`` (all fields). v2: ``GET /v2/billing`` (USD, turned into credits; the other
        fields are ``None``).

        :param with_top_up: tell whether the account tops itself up (:attr:`Balance.auto_debit_status`) on v2 too. It is
            ``GET /v2/billing/detail`` then, in place of ``GET /v2/billing``, as long as that works.
        :param respect_key_limit: ask also what the key may still spend: :attr:`Balance.key_limit`. Two more requests
            where it has a limit (four more a year, where that never starts anew), one where it has none.
        :param top_up_grace: ask also for the auto top-up, and whether for these seconds it should have paid and did
            not: :attr:`Balance.top_up`. One more request, and up to four for the ledger where the balance is below its
            mark. A fault there leaves it ``None``.
        :raises AimlBillingConnectionError: the connection is missing or wrong.
        :raises AimlBillingAuthError: 401, or 403 for another reason than used-up credits.
        :raises AimlBillingKeyDisabledError: the key is switched off, with ``respect_key_limit``.
        :raises AimlBillingContractError: JSON that is not what the API promises, a redirect, any other status.
        :raises AimlBillingUnavailable: no believable answer, also after the retries.
        :raises InsufficientBalanceError: the account is overdrawn, or 403 and the API says that it is out of credits.
        """

        def ask() -> Balance:
            try:
                balance = self._balance(with_top_up=with_top_up and top_up_grace is None)
            except InsufficientBalanceError as refusal:
                if refusal.overdrawn_credits is not None:
                    gauge_balance(self.aimlbilling_conn_id, -refusal.overdrawn_credits)
                if top_up_grace is not None:
                    refusal.top_up = self._top_up(-(refusal.overdrawn_credits or 0), top_up_grace)
                raise
            gauge_balance(self.aimlbilling_conn_id, balance.balance)
            if respect_key_limit:
                balance = replace(balance, key_limit=self._key_limit())
            if top_up_grace is not None:
                balance = replace(balance, top_up=self._top_up(balance.balance, top_up_grace))
            return balance

        return self._tried(ask)

    def _balance(self, *, with_top_up: bool) -> Balance:
        settings, session = self._opened()
        if with_top_up and settings.api_version == "v2" and self._no_detail != settings:
            try:
                return account.read_v2_detail(self._get(_DETAIL))
            except (AimlBillingAuthError, AimlBillingContractError, AimlBillingUnavailable) as error:
                # The balance must not hang on the detail, which this key may not see, or the API not give just now.
                self._no_detail = settings
                if getattr(error, "status", None) == 429:
                    raise
        return _READERS[settings.api_version](_good(fetch(session, settings, settings.url), settings))

    def decide(self, gate: Gate, *, respect_key_limit: bool = False) -> Verdict:
        """
        Ask for the balance and decide at once, as gates do that do not wait.

        :param gate: the rule.
        :param respect_key_limit: as in :meth:`get_balance`.
        :raises AimlBillingError: its children, as :meth:`get_balance` says; but a lack of credits is a verdict.
        """
        reading: Balance | InsufficientBalanceError
        try:
            reading = self.get_balance(respect_key_limit=respect_key_limit)
        except InsufficientBalanceError as refusal:
            reading = refusal
        verdict = gate.decide(reading)
        count_decision(self.aimlbilling_conn_id, clears=verdict.clears)
        self.log.info("%s: %s.", "The account can pay" if verdict.clears else "The account cannot pay", verdict.reason)
        return verdict

    def get_key_limit(self) -> KeyLimit | None:
        """
        Ask what the connection's key may spend and has spent: ``GET /v1/key`` and ``GET /v2/usage``.

        The first tells of the key that was used last, so it is believed only where its prefix is that of this key.

        :returns: the limit; ``None`` where the key has none.
        :raises AimlBillingUnavailable: the API told of another key, also after the retries; or gave no answer.
        :raises AimlBillingKeyDisabledError: the key is switched off.
        :raises AimlBillingError: its other children, as :meth:`get_balance` says.
        """
        return self._tried(self._key_limit)

    def get_top_up(self) -> TopUp:
        """
        Ask for the auto top-up settings: ``GET /v2/billing/detail``. Nothing else of that answer is read.

        :raises AimlBillingError: its children, as :meth:`get_balance` says.
        """
        return self._tried(lambda: account.read_top_up(self._get(_DETAIL)))

    def iter_transactions(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        direction: str | None = None,
        type: str | None = None,
    ) -> Iterator[Transaction]:
        """
        Go through the ledger, newest first, to any length: ``GET /v2/billing/transactions``, by its cursor.

        :param start: only entries from this moment on; with a time zone.
        :param end: only entries before this moment; with a time zone.
        :param direction: ``TOPUP`` or ``CHARGE``.
        :param type: one of :data:`account.TYPES`.
        :raises ValueError: a time without a time zone, none between start and end, or an unknown direction or type.
        :raises AimlBillingError: its children, as :meth:`get_balance` says; a page is asked for when it is needed.
        """
        if direction is not None and direction not in DIRECTIONS:
            raise ValueError(f"direction is one of {', '.join(DIRECTIONS)}, not {direction!r}.")
        if type is not None and type not in TYPES:
            raise ValueError(f"type is one of {', '.join(TYPES)}, not {type!r}.")
        times = {"from": start and _iso(start), "to": end and _iso(end)}
        if start and end and end - start < timedelta(milliseconds=1):
            raise ValueError("The end of the time lies before its start, or at it.")
        asked = {"limit": "100", "direction": direction, "type": type, **times}
        return self._pages({name: value for name, value in asked.items() if value}, self._tried)

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
        Ask what the key spent: ``GET /v2/usage/detail``, or ``GET /v2/usage`` for the total alone.

        Longer times than the 92 days that the API takes are asked for in parts.

        :param start: begin of the time; with a time zone.
        :param end: end of the time; with a time zone.
        :param by_model: with the parts of each model.
        :param group_by: ``day``, ``model`` or ``day,model``, for :attr:`Usage.groups`; with ``by_model`` only.
        :param tz: IANA name of the time zone that days are told by, such as ``Europe/Berlin``.
        :param key_prefix: first eight characters of another key; the connection needs a management key then.
        :raises ValueError: a time without a time zone, or an end before its start.
        :raises AimlBillingError: its children, as :meth:`get_balance` says.
        """
        _iso(start), _iso(end)  # both must have a time zone
        if end < start:
            raise ValueError("The end of the time lies before its start.")
        asked = {"key_prefix": key_prefix, "group_by": group_by, "tz": tz}
        given = {name: value for name, value in asked.items() if value}
        path = "/v2/usage/detail" if by_model else "/v2/usage"

        def ask(window: tuple[datetime, datetime]) -> Usage:
            times = {"start": _iso(window[0]), "end": _iso(window[1])}
            return account.read_usage(self._get(path, {**times, **given}, longest=MAX_USAGE))

        parts = [self._tried(lambda window=window: ask(window)) for window in account.windows(start, end)]  # type: ignore[misc]
        return account.joined(parts)

    def get_pricing(self, model: str, *, model_type: str | None = None) -> Pricing:
        """
        Ask the live catalogue what one model costs: ``GET /v1/models?id=…&include=pricing``.

        A hook that asks again sends the ``ETag`` along, and an unchanged answer is not sent anew.

        :param model: id of the model, or one of its aliases.
        :param model_type: the endpoint type, such as ``openai/chat-completions``, where a model has several.
        :raises AimlBillingPricingError: no model is named, the catalogue does not know it, or has several of that name.
        :raises AimlBillingError: its other children, as :meth:`get_balance` says.
        """
        if not isinstance(model, str) or not model.strip():
            raise AimlBillingPricingError(f"{model!r} names no model. The template that should give it gave nothing?")
        return self._tried(lambda: self._pricing(model, model_type))

    def _pricing(self, model: str, model_type: str | None) -> Pricing:
        settings, session = self._opened()
        asked = settings.base_url, model, model_type
        etag, known = self._prices.get(asked, (None, None))
        query = {"id": model, "include": "pricing"}
        answer = fetch(session, settings, settings.url_of("/v1/models"), query, etag)
        now = datetime.now(timezone.utc)
        if known and answer.status == 304:
            return replace(known, read_at=now)
        self._prices.pop(asked, None)
        found = field_of(read_object(_good(answer, settings)), "data", list)
        pricing = Pricing.from_models(found, model, model_type, now)
        if answer.etag:
            self._prices[asked] = answer.etag, pricing
        return pricing

    def _key_limit(self) -> KeyLimit | None:
        key = account.read_key(self._get("/v1/key"))
        if key.prefix != self._opened()[0].key[:8]:
            raise AimlBillingUnavailable(
                "GET /v1/key told of another key of the account, as it does when that was used last. What this key may "
                "still spend is not known; leave respect_key_limit out if this goes on."
            )
        if key.disabled:
            raise AimlBillingKeyDisabledError(
                f"The API key of the connection {self.aimlbilling_conn_id!r} is switched off: switch it on in the "
                "vendor's settings, or put another into the connection."
            )
        if key.limit is None or key.retention is None:
            return None
        # Times are told in milliseconds, cut off, and a window's end is not in it: the last charges must not be lost.
        now = datetime.now(timezone.utc) + timedelta(milliseconds=1)
        parts = account.windows(min(account.period_start(key, now), now), now)
        asked = [{"start": _iso(start), "end": _iso(end)} for start, end in parts]
        spent = account.joined([account.read_usage(self._get("/v2/usage", times)) for times in asked]).total
        return KeyLimit(key.retention, key.limit, spent.amount.credits)

    def _top_up(self, balance: Number, grace: float) -> TopUp | None:
        """Look at the auto top-up. A fault there says nothing of the balance, which is known, and hides it not."""
        if time.monotonic() < self._top_up_not_before:
            return None
        try:
            return self._watched_top_up(balance, grace)
        except AimlBillingError as error:
            self._top_up_not_before = time.monotonic() + (getattr(error, "retry_after", None) or 0.0)
            if not self._said_unknown and self._open is not None:  # else nobody waits any more
                self.log.warning("Nothing is known of the auto top-up: %s", error)
            self._said_unknown = True
            return None

    def _watched_top_up(self, balance: Number, grace: float) -> TopUp:
        top_up = account.read_top_up(self._get(_DETAIL))
        if not top_up.is_enabled or top_up.threshold is None or balance >= top_up.threshold:
            return top_up
        since = datetime.now(timezone.utc) - timedelta(seconds=grace)
        # Most often one page. An account with more entries in that time than are read here is busy, and not stuck.
        ledger = self._pages({"limit": "100", "from": _iso(since)}, lambda ask: ask())
        entries = list(islice(ledger, MOST_ENTRIES + 1))
        stuck = len(entries) <= MOST_ENTRIES and account.below_all_along(balance, top_up.threshold, entries)
        return replace(top_up, stuck_for=grace) if stuck else top_up

    def _pages(self, asked: Mapping[str, str], tried: Callable[[Callable[[], _Page]], _Page]) -> Iterator[Transaction]:
        seen: set[str] = set()
        cursor: str | None = None
        while True:
            query = {**asked, "cursor": cursor} if cursor else dict(asked)
            entries, cursor = tried(lambda: account.read_transactions(self._get(_LEDGER, query)))  # noqa: B023
            yield from entries
            if cursor is None:
                return
            if cursor in seen:
                raise AimlBillingContractError("The ledger's cursor came back to where it was. Report this.")
            seen.add(cursor)

    def _get(self, path: str, query: Mapping[str, str] | None = None, *, longest: int = MAX_BODY) -> bytes:
        settings, session = self._opened()
        return _good(fetch(session, settings, settings.url_of(path), query, longest=longest), settings)

    def _tried(self, ask: Callable[[], T]) -> T:
        """Ask, and again where there was no believable answer."""
        tries = Retry(total=self.retries, backoff_factor=0.5, backoff_jitter=0.5, backoff_max=LONGEST_NAP)
        while True:
            try:
                return ask()
            # Raised without the frames below: some logs print the locals of each frame, and there the key is a local.
            except AimlBillingUnavailable as fault:
                asked = fault.retry_after or 0.0
                if not tries.total or asked > LONGEST_NAP:
                    raise fault.with_traceback(None) from None
            except AimlBillingError as error:
                raise error.with_traceback(None) from None
            tries = tries.increment()
            time.sleep(max(asked, tries.get_backoff_time()))

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


_LEDGER = "/v2/billing/transactions"


def _good(answer: Answer, settings: Settings) -> bytes:
    if answer.status != 200:
        raise read_refusal(answer, settings)
    return answer.body


def _iso(moment: datetime) -> str:
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ValueError("A time is a datetime with its time zone: datetime(…, tzinfo=timezone.utc).")
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
