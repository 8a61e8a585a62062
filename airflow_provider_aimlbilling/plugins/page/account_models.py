"""What the routes for connections and their accounts answer."""

from __future__ import annotations

from datetime import date, datetime

from pydantic import BaseModel

from airflow_provider_aimlbilling.plugins.page.money_model import Money


class ConnectionEntry(BaseModel):
    """A connection of type ``aimlbilling``."""

    connection_id: str
    description: str | None


class Connections(BaseModel):
    """The connections that the user may read."""

    connections: list[ConnectionEntry]
    refresh_seconds: int


class KeyLimitFigures(BaseModel):
    """What the key may spend in a period. What it has spent is unknown if the period is."""

    period: str
    limit: Money
    spent: Money | None
    remaining: Money


class RunwayFigures(BaseModel):
    """For how many days the money lasts, as decimal text."""

    shortest_days: str
    longest_days: str
    summary: str


class AccountFigures(BaseModel):
    """The account of a connection. With an error, the figures are the last known ones."""

    connection_id: str
    state: str
    state_text: str
    balance: Money | None
    low_mark: Money | None
    key_limit: KeyLimitFigures | None
    key_limit_text: str | None
    auto_top_up: str | None
    read_at: datetime | None
    error: str | None
    runway: RunwayFigures | None
    runway_text: str | None
    billing_url: str


class SpendingRow(BaseModel):
    """What one model cost on one day."""

    day: date
    model: str
    cost: Money


class SpendingFigures(BaseModel):
    """What the key of a connection spent. The models are in order of their cost, highest first."""

    connection_id: str
    days: int
    tz: str
    first_day: date | None
    last_day: date | None
    read_at: datetime | None
    error: str | None
    total: Money | None
    rows: list[SpendingRow]
    models: list[str]
    missing_text: str
