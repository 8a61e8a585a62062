"""How the API writes JSON, times and entity tags."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any


def to_json(value: Any) -> str:
    """Return a value as JSON. The ``json`` module would turn fractions of a credit into binary floats."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(name)}: {to_json(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(to_json, value)) + "]"
    return format(value, "f") if isinstance(value, Decimal) else json.dumps(value)


def iso_time(moment: datetime) -> str:
    """Return a time in the format of the API: UTC, in milliseconds."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def etag(body: bytes) -> str:
    """Return the ``ETag`` of a response body."""
    return f'W/"{len(body):x}-{hashlib.sha256(body).hexdigest()[:27]}"'
