"""The sandbox itself: one account, served on a port of this machine."""

from __future__ import annotations

import json
import threading
from datetime import datetime
from types import TracebackType
from typing import Any

from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.sandbox.account import LIMIT_PERIODS, Account
from airflow_provider_aimlbilling.sandbox.faults import Fault
from airflow_provider_aimlbilling.sandbox.handler import Request, Server


class Sandbox:
    """
    The billing API of one account, on a port of this machine.

    :param balance: what the account holds, as :meth:`Amount.parse` reads it.
    :param low_balance_threshold: below this, ``lowBalance`` is true.
    :param key: the only regular API key that is accepted.
    :param port: port to listen on; 0 for a free one.
    """

    def __init__(
        self, balance: object = 0, *, low_balance_threshold: object = 10_000, key: str = "sandbox-key", port: int = 0
    ) -> None:
        self.account = Account(Amount.parse(balance), Amount.parse(low_balance_threshold), key)
        self.requests: list[Request] = []
        self.connections = 0
        self._fault: Fault | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._serving = False
        self._server = Server(("127.0.0.1", port), self)

    @property
    def url(self) -> str:
        """The base URL, for the connection's host."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def connection(self, **extra: object) -> str:
        """
        Return the value for an ``AIRFLOW_CONN_…`` variable, as JSON.

        :param extra: ``timeout`` or ``api_version`` for the connection's extra.
        """
        fields = {"conn_type": "aimlbilling", "password": self.key, "host": self.url}
        return json.dumps(fields | ({"extra": extra} if extra else {}))

    @property
    def key(self) -> str:
        """The only regular API key that is accepted."""
        return self.account.key

    @key.setter
    def key(self, key: str) -> None:
        self.account.key = key

    @property
    def low_balance_threshold(self) -> Amount:
        """Below this, ``lowBalance`` is true."""
        return self.account.low_balance_threshold

    @low_balance_threshold.setter
    def low_balance_threshold(self, amount: object) -> None:
        self.account.low_balance_threshold = Amount.parse(amount)

    @property
    def balance(self) -> Amount:
        """What the account holds."""
        return self.account.balance

    def set_balance(self, amount: object) -> None:
        """
        Set what the account holds.

        :param amount: the new balance, as :meth:`Amount.parse` reads it.
        """
        self.account.set_balance(Amount.parse(amount))

    def top_up(self, amount: object, at: datetime | None = None) -> None:
        """
        Add a payment.

        :param amount: what is paid, as :meth:`Amount.parse` reads it.
        :param at: when the ledger says that it happened; ``None`` for now.
        """
        self.account.top_up(Amount.parse(amount), at)

    def spend(
        self,
        amount: object,
        model: str | None = None,
        at: datetime | None = None,
        client_request_id: str | None = None,
    ) -> None:
        """
        Charge an amount, at most what is left. With a model, the request log shows a request that cost as much.

        :param amount: what is charged, as :meth:`Amount.parse` reads it.
        :param model: the model that the ledger and the request log name.
        :param at: when the ledger and the log say that it happened; ``None`` for now.
        :param client_request_id: the ``X-Client-Request-Id`` that the request log shows.
        """
        self.account.spend(Amount.parse(amount), model, at, client_request_id)

    def set_key_limit(self, amount: object, period: str = "month") -> None:
        """
        Limit what the key may spend.

        :param amount: the limit, as :meth:`Amount.parse` reads it; ``None`` for no limit.
        :param period: ``day``, ``week``, ``month`` or ``no_reset``.
        :raises ValueError: the period is none of these.
        """
        if period not in LIMIT_PERIODS:
            raise ValueError(f"period is one of {', '.join(LIMIT_PERIODS)}, not {period!r}.")
        self.account.key_limit = None if amount is None else Amount.parse(amount)
        self.account.key_period = period

    def set_auto_top_up(self, threshold: object, amount: object, *, payments_work: bool = True) -> None:
        """
        Turn auto top-up on.

        :param threshold: the balance below which it pays, as :meth:`Amount.parse` reads it.
        :param amount: what it pays, as :meth:`Amount.parse` reads it.
        :param payments_work: whether its payments succeed.
        """
        self.account.auto_top_up = Amount.parse(threshold), Amount.parse(amount)
        self.account.payments_work = payments_work

    def fail(self, **fault: Any) -> None:
        """
        Fail from the next request on.

        :param fault: the parameters of :class:`Fault`.
        """
        self._fault = Fault(**fault)

    def recover(self) -> None:
        """Work normally again."""
        self._fault = None

    def take_fault(self) -> Fault | None:
        """Return the fault for one request, and count it."""
        with self._lock:
            fault = self._fault
            if fault is not None and fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self._fault = None
            return fault

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than the sandbox runs."""
        self._stopping.wait(seconds)

    def start(self) -> Sandbox:
        """Serve in the background."""
        self._serving = True
        # A short interval, because stop() waits for it and tests start hundreds of sandboxes.
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop serving and free the port."""
        self._stopping.set()
        if self._serving:
            self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
