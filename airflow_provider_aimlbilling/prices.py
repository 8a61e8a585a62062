"""
The command ``python -m airflow_provider_aimlbilling.prices``: the rates of a model, and the words to use for them.

It reads the vendor's public catalogue and needs no key.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import closing

from airflow_provider_aimlbilling.client.client import AimlBillingClient
from airflow_provider_aimlbilling.client.settings import Settings
from airflow_provider_aimlbilling.exceptions import AimlBillingError
from airflow_provider_aimlbilling.money.pricing import Pricing


def main(argv: list[str] | None = None) -> None:
    """
    Print the rates of one model.

    :param argv: the arguments; ``None`` for those of the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_aimlbilling.prices",
        description="The rates of a model of the AI/ML API, and how EstimateCostOperator names them. Needs no key.",
    )
    parser.add_argument("model", help="id or alias of the model, in any case")
    parser.add_argument("--model-type", help="endpoint type, for a model whose price depends on it")
    parser.add_argument("--base-url", default="", help="another server, such as the sandbox (default: the vendor's)")
    options = parser.parse_args(argv)
    try:
        with closing(AimlBillingClient(Settings(None, base_url=options.base_url))) as client:
            pricing = client.get_pricing(options.model, model_type=options.model_type)
    except AimlBillingError as error:
        sys.exit(str(error))
    print("\n".join(describe(pricing)))


def describe(pricing: Pricing) -> list[str]:
    """
    Return the lines that say what a model costs.

    :param pricing: the model's pricing.
    """
    if pricing.kind == "variable":
        return [f"{pricing.model}: the price is only known with the response. Set the threshold by hand."]
    lines = [f"{pricing.model}: {pricing.kind} price, as of {pricing.read_at:%Y-%m-%d %H:%M} UTC"]
    lines += [f"  {rate}" for rate in pricing.rates]
    labels = dict.fromkeys(rate.label for rate in pricing.rates)
    variant = ""
    if pricing.dimensions:
        first = dict(pricing.rates[0].when)
        variant = f", variant={first!r}"
    work = ", ".join(f"{label!r}: …" for label in labels)
    lines.append(f"EstimateCostOperator(model={pricing.model!r}, work={{{work}}}{variant})")
    return lines


if __name__ == "__main__":
    main()
