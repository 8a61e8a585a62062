"""The state of the sandbox's account: its money, its ledger and its key."""

from __future__ import annotations

import threading
import uuid
from bisect import insort
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal

from airflow_provider_aimlbilling.money.amount import EXACT, Amount
from airflow_provider_aimlbilling.sandbox.catalogue import CATALOGUE, Catalogue

LIMIT_PERIODS = ("no_reset", "day", "week", "month")

_TOP_UP_TYPES = {"PAYMENT", "BONUS", "REFUND", "INIT"}
_CHARGE_TYPES = {"MODEL_USAGE", "CREDITS_EXPIRED"}
ENTRY_TYPES = {*_TOP_UP_TYPES, *_CHARGE_TYPES, "ADJUSTMENT"}


@dataclass(frozen=True)
class Entry:
    """An entry of the ledger. As in the API, ``credits`` is positive, and ``direction`` says which way it went."""

    at: datetime
    direction: str
    type: str
    credits: Decimal
    model: str | None
    number: int

    @property
    def reference_id(self) -> str | None:
        """The id of the inference or of the payment."""
        return f"ref-{self.number}" if self.type in ("MODEL_USAGE", "PAYMENT") else None


@dataclass(frozen=True)
class LogRow:
    """A row of the request log. A request that failed costs nothing."""

    at: datetime
    succeeded: bool
    model: str
    credits: Decimal
    input_tokens: int
    output_tokens: int
    request_id: str
    inference_id: str
    client_request_id: str | None


@dataclass
class Account:
    """
    One account with one regular key and one management key.

    :param balance: what the account holds.
    :param low_balance_threshold: below this, ``lowBalance`` is true.
    :param key: the regular API key.
    :param management_key: a key that may read usage and the key's settings, but not the ledger or the balance.
    :param key_limit: what the key may spend in a period; ``None`` for no limit.
    :param key_period: one of ``LIMIT_PERIODS``.
    :param key_disabled: whether ``/v1/key`` reports the key as disabled.
    :param latest_key: the key that ``/v1/key`` describes; empty for the regular key.
    :param auto_top_up: the threshold below which the account is topped up, and the amount; ``None`` if it is off.
    :param payments_work: whether the payments of the auto top-up succeed.
    :param catalogue: the models that ``/v1/models`` lists.
    :param max_log_requests: how often ``/v2/logs`` may be read in 60 seconds; ``None`` for no limit.
    """

    balance: Amount
    low_balance_threshold: Amount
    key: str = field(repr=False)
    management_key: str = field(default="sandbox-management-key", repr=False)
    key_limit: Amount | None = None
    key_period: str = "month"
    key_disabled: bool = False
    latest_key: str = field(default="", repr=False)
    auto_top_up: tuple[Amount, Amount] | None = None
    payments_work: bool = True
    catalogue: Catalogue = field(default_factory=lambda: CATALOGUE)
    ledger: list[Entry] = field(default_factory=list)
    log: list[LogRow] = field(default_factory=list)  # oldest first
    max_log_requests: int | None = 200

    def __post_init__(self) -> None:
        self.key_created_at = datetime.now(timezone.utc) - timedelta(days=100)
        self.log_reads: deque[float] = deque()  # when /v2/logs was read, by time.monotonic()
        self._lock = threading.Lock()
        self._record("INIT", Decimal(self.balance.credits), None, self.key_created_at)

    def set_balance(self, amount: Amount) -> None:
        """Set what the account holds. The ledger shows an adjustment."""
        with self._lock:
            change = EXACT.subtract(Decimal(amount.credits), Decimal(self.balance.credits))
            self.balance = amount
            if change:
                self._record("ADJUSTMENT", change, None, None)

    def top_up(self, amount: Amount, at: datetime | None = None) -> None:
        """Add a payment."""
        with self._lock:
            self._change("PAYMENT", Decimal(amount.credits), None, at)

    def spend(
        self, amount: Amount, model: str | None = None, at: datetime | None = None, client_request_id: str | None = None
    ) -> None:
        """
        Charge an amount, at most what is left. An auto top-up that is on and works follows at once.

        If there is a model, the request log has a request that cost as much.
        """
        with self._lock:
            charge = min(Decimal(amount.credits), Decimal(self.balance.credits))
            if charge or model:
                self._charge(charge, model, at, (0, 0), client_request_id)

    def request(self, model: str, amount: Amount, tokens: tuple[int, int], client_request_id: str | None) -> LogRow:
        """
        Charge a request to a model, and log it. If the account cannot pay, it fails.

        :param model: id of the model.
        :param amount: what it costs.
        :param tokens: input and output.
        :param client_request_id: what the client sent as ``X-Client-Request-Id``; ``None`` if that is not stored.
        """
        with self._lock:
            if amount > self.balance or not self.balance.credits:
                return self._log(False, model, Decimal(0), (0, 0), client_request_id, None, None)
            row = self._charge(Decimal(amount.credits), model, None, tokens, client_request_id)
            assert row is not None  # noqa: S101 - there is a model
            return row

    def log_failure(self, model: str, client_request_id: str | None) -> None:
        """Log a request that failed before it reached a model."""
        with self._lock:
            self._log(False, model, Decimal(0), (0, 0), client_request_id, None, None)

    def usage_between(self, start: datetime, end: datetime) -> list[Entry]:
        """Return the charges for model usage from ``start`` until before ``end``."""
        return [entry for entry in self.ledger if entry.type == "MODEL_USAGE" and start <= entry.at < end]

    def _charge(
        self,
        charge: Decimal,
        model: str | None,
        at: datetime | None,
        tokens: tuple[int, int],
        client_request_id: str | None,
    ) -> LogRow | None:
        reference_id = self._change("MODEL_USAGE", -charge, model, at).reference_id if charge else None
        row = self._log(True, model, charge, tokens, client_request_id, at, reference_id) if model else None
        if self.auto_top_up and self.payments_work and self.balance < self.auto_top_up[0]:
            self._change("PAYMENT", Decimal(self.auto_top_up[1].credits), None, at)
        return row

    def _log(
        self,
        succeeded: bool,
        model: str,
        credits: Decimal,
        tokens: tuple[int, int],
        client_request_id: str | None,
        at: datetime | None,
        inference_id: str | None,
    ) -> LogRow:
        at = at or datetime.now(timezone.utc)
        at = at.replace(microsecond=at.microsecond // 1000 * 1000)  # the API reports milliseconds
        request_id, inference_id = str(uuid.uuid4()), inference_id or str(uuid.uuid4())
        row = LogRow(at, succeeded, model, credits, *tokens, request_id, inference_id, client_request_id)
        insort(self.log, row, key=lambda row: row.at)
        return row

    def _change(self, type: str, credits: Decimal, model: str | None, at: datetime | None) -> Entry:
        self.balance = Amount(EXACT.add(Decimal(self.balance.credits), credits))
        return self._record(type, credits, model, at)

    def _record(self, type: str, credits: Decimal, model: str | None, at: datetime | None) -> Entry:
        is_charge = type in _CHARGE_TYPES or (type not in _TOP_UP_TYPES and credits < 0)
        direction = "CHARGE" if is_charge else "TOPUP"
        at = at or datetime.now(timezone.utc)
        entry = Entry(at, direction, type, abs(credits), model, len(self.ledger))
        self.ledger.append(entry)
        return entry
