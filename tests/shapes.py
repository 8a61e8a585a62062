"""The documented shape of each response: its fields, their types, and which may be null or missing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

NUMBER, TEXT, FLAG, WHOLE = "number", "text", "flag", "whole number"
_SPEND = {"spend": NUMBER, "requests": WHOLE}

# "?" after a name: the field may be missing. "?" after a type: it may be null. [shape]: a list. (…): one of these.
SHAPES: dict[str, Any] = {
    "/v1/billing/balance": {
        "balance": NUMBER,
        "lowBalance": FLAG,
        "lowBalanceThreshold": NUMBER,
        "lastUpdated": TEXT,
        "autoDebitStatus": TEXT,
        "status": TEXT,
        "statusExplanation": TEXT,
    },
    "/v2/billing": {"current_balance": NUMBER, "currency": ("USD",)},
    "/v2/billing/detail": {
        "user_id": NUMBER,
        "email": TEXT,
        "current_balance": NUMBER,
        "currency": ("USD",),
        "autotopup_settings": {"is_enabled": FLAG, "threshold": NUMBER, "amount": NUMBER, "currency": ("USD",)},
    },
    "/v2/billing/transactions": {
        "data": [
            {
                "created_at": TEXT,
                "direction": ("TOPUP", "CHARGE"),
                "type": ("PAYMENT", "BONUS", "REFUND", "ADJUSTMENT", "MODEL_USAGE", "CREDITS_EXPIRED", "INIT"),
                "amount": {"usd": NUMBER, "credits": WHOLE},
                "model": f"{TEXT}?",
                "reference_id": f"{TEXT}?",
            }
        ],
        "pagination": {"next_cursor": f"{TEXT}?", "has_more": FLAG},
    },
    "/v1/key": {
        "data": {
            "name?": f"{TEXT}?",
            "disabled": FLAG,
            "prefix": TEXT,
            "scopes?": [TEXT],
            "limit?": {"retention": ("no_reset", "day", "week", "month"), "threshold": NUMBER, "null": True},
            "created_at": TEXT,
            "updated_at": TEXT,
            "monthly_usage": NUMBER,
        }
    },
    "error": {"message": TEXT, "path": TEXT, "requestId": TEXT, "statusCode": TEXT, "timestamp": TEXT},
    "/v2/usage": {"api_key_prefix": f"{TEXT}?", "start": TEXT, "end": TEXT, "currency": ("USD",), **_SPEND},
    "/v2/usage/detail": {
        "api_key_prefix": f"{TEXT}?",
        "start": TEXT,
        "end": TEXT,
        "currency": ("USD",),
        **_SPEND,
        "models": [{"model": TEXT, **_SPEND}],
        "groups?": [
            {
                "day?": TEXT,
                "model?": TEXT,
                "spend": NUMBER,
                "tokens": {"input": WHOLE, "output": WHOLE, "total": WHOLE},
                "requests": {"total": WHOLE, "charged": WHOLE, "succeeded": WHOLE, "failed": WHOLE},
            }
        ],
    },
    "/v2/logs": {
        "data": [
            {
                "created": TEXT,
                "status": ("succeeded", "failed"),
                "origin": ("api", "playground"),
                "model": TEXT,
                "cost": {"usd": NUMBER, "credits": WHOLE},
                "tokens": {"input": WHOLE, "output": WHOLE, "total": WHOLE},
                "request_id": f"{TEXT}?",
                "inference_id": TEXT,
                "client_request_id": f"{TEXT}?",
            }
        ],
        "pagination": {"limit": WHOLE, "offset": WHOLE, "total": WHOLE, "has_more": FLAG},
    },
    "/v1/models": {
        "object": ("list",),
        "data": [
            {
                "id": TEXT,
                "aliases": [TEXT],
                "type": TEXT,
                "info": {"name": TEXT, "developer": TEXT},
                "tags": [TEXT],
                "pricing?": {
                    "kind": ("fixed", "variants", "variable"),
                    "currency": ("USD",),
                    "units?": [
                        {
                            "name": TEXT,
                            "measure": TEXT,
                            "price": NUMBER,
                            "per": NUMBER,
                            # Only in the live catalogue.
                            "type?": TEXT,
                            "content?": TEXT,
                            "origin?": TEXT,
                            "phase?": TEXT,
                            "author?": TEXT,
                        }
                    ],
                    "dimensions?": [TEXT],
                    "variants?": [{"when": {"resolution": TEXT}, "price": NUMBER, "unit": TEXT, "per": NUMBER}],
                },
            }
        ],
    },
}


def deviations(value: Any, shape: Any, where: str = "") -> list[str]:
    """Return where a response, its numbers as ``Decimal``, deviates from a shape."""
    if isinstance(shape, dict):
        if value is None and shape.get("null"):
            return []
        if not isinstance(value, dict):
            return [f"{where} is not an object"]
        fields = {name.rstrip("?"): (name, type_) for name, type_ in shape.items() if name != "null"}
        found = [f"{where}.{name} is not documented" for name in value if name not in fields]
        for plain, (name, type_) in fields.items():
            if plain in value:
                found += deviations(value[plain], type_, f"{where}.{plain}")
            elif not name.endswith("?"):
                found.append(f"{where}.{plain} is missing")
        return found
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{where} is not a list"]
        return [deviation for part in value for deviation in deviations(part, shape[0], f"{where}[]")]
    if isinstance(shape, tuple):
        return [] if value in shape else [f"{where} is none of {shape}"]
    if value is None:
        return [] if shape.endswith("?") else [f"{where} is null"]
    fits = {
        NUMBER: isinstance(value, Decimal),
        TEXT: isinstance(value, str),
        FLAG: isinstance(value, bool),
        WHOLE: isinstance(value, Decimal) and value == value.to_integral_value(),
    }[shape.rstrip("?")]
    return [] if fits else [f"{where} is not {shape}"]
