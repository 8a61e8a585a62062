"""
A local billing API, to run DAGs without a key and without spending money. Standard library only.

On the command line it prints the line that sets the connection, and serves until it is stopped::

    python -m airflow_provider_aimlbilling.sandbox --balance "2.50 USD"

In tests it is a context manager::

    with Sandbox(balance=1_000) as sandbox:
        os.environ["AIRFLOW_CONN_AIMLBILLING_DEFAULT"] = sandbox.connection()
        sandbox.top_up("1 USD")
        sandbox.fail(status=429, retry_after=3, times=2)

It has the documented endpoints for balance, auto top-up, ledger, usage, request log, key and catalogue, and completes
chats at the catalogue's rates. It refuses a wrong key or a key of the wrong kind, and sends the vendor's error bodies.
While it runs, ``POST /sandbox/top-up?amount=…``, ``/sandbox/spend?amount=…`` and ``/sandbox/set?amount=…`` change the
balance; these three routes are not part of the vendor's API.
"""

from airflow_provider_aimlbilling.sandbox.faults import Fault
from airflow_provider_aimlbilling.sandbox.server import Sandbox

__all__ = ["Fault", "Sandbox"]
