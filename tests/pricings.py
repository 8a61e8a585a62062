"""Entries of the catalogue, built by hand, and the pricings that are read from them."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from airflow_provider_aimlbilling.client.catalogue import read_pricing
from airflow_provider_aimlbilling.money.pricing import Pricing

NOW = datetime.now(timezone.utc)


def unit(name: str, measure: str, price: str, per: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "measure": measure, "price": Decimal(price), "per": Decimal(per), **more}


def variant(price: str, per: int = 1, unit: str = "second", **when: Any) -> dict[str, Any]:
    return {"when": when, "price": Decimal(price), "unit": unit, "per": Decimal(per)}


def fixed(*units: dict[str, Any]) -> Pricing:
    return read_pricing("m", {"kind": "fixed", "currency": "USD", "units": list(units)}, NOW)


def variants(dimensions: list[str], *rates: dict[str, Any]) -> Pricing:
    return read_pricing("m", {"kind": "variants", "dimensions": dimensions, "variants": list(rates)}, NOW)


CHAT = fixed(unit("token", "input", "2.5", 1_000_000), unit("token", "output", "10", 1_000_000))
VIDEO = variants(["resolution"], variant("0.39", resolution="720p"), variant("0.65", resolution="1080p"))
# The live catalogue describes some models like this: the measure is the same, and "origin" distinguishes the rates.
RICH = fixed(
    unit("token", "text", "1.25", 1_000_000, content="text", origin="provided", note=None),
    unit("token", "text", "10", 1_000_000, content="text", origin="generated"),
    unit("token", "text", "0.125", 1_000_000, content="text", origin="cached"),
)
VARIABLE = read_pricing("m", {"kind": "variable"}, NOW)
