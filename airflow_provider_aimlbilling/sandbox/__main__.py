"""The command ``python -m airflow_provider_aimlbilling.sandbox``."""

from __future__ import annotations

import argparse
import threading

from airflow_provider_aimlbilling.exceptions import AimlBillingThresholdError
from airflow_provider_aimlbilling.sandbox import Sandbox


def main(argv: list[str] | None = None) -> None:
    """
    Serve an account until Ctrl-C.

    :param argv: the arguments; ``None`` for those of the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_aimlbilling.sandbox",
        description="A local AI/ML billing API, to run DAGs without a key and without spending money.",
    )
    parser.add_argument(
        "--balance", default="0", help="what the account holds, such as 5000000 or '2.50 USD' (default: 0)"
    )
    parser.add_argument(
        "--low-balance-threshold", default="10000", help="below this, lowBalance is true (default: 10000)"
    )
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    options = parser.parse_args(argv)
    try:
        sandbox = Sandbox(options.balance, low_balance_threshold=options.low_balance_threshold, port=options.port)
    except AimlBillingThresholdError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"cannot listen on port {options.port}: {error.strerror}")
    with sandbox:
        print(f"export AIRFLOW_CONN_AIMLBILLING_DEFAULT='{sandbox.connection()}'", flush=True)
        print(f"# The account holds {sandbox.balance}. To top it up by 1 USD:", flush=True)
        print(f"#   curl -X POST '{sandbox.url}/sandbox/top-up?amount=1USD'", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
