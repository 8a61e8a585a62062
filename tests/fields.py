"""
What each documented field of each answer is for.

REQUIRED: a decision or an amount of money depends on it. Without it, reading the answer is an error.
INFORMATION: it is passed on. Without it, or with an undocumented value, it is None, and nothing else changes.
IGNORED: it is never read.
"""

from __future__ import annotations

REQUIRED, INFORMATION, IGNORED = "required", "information", "ignored"

# Path in the answer, with * for the elements of a list.
FIELDS: dict[str, dict[str, str]] = {
    "/v1/billing/balance": {
        "balance": REQUIRED,
        # Only a gate without a threshold needs these two: then it is an error of the gate, not of the answer.
        "lowBalance": INFORMATION,
        "lowBalanceThreshold": INFORMATION,
        "lastUpdated": INFORMATION,
        "autoDebitStatus": INFORMATION,
        "status": INFORMATION,
        "statusExplanation": INFORMATION,
    },
    "/v2/billing": {"current_balance": REQUIRED, "currency": REQUIRED},
    "/v2/billing/detail": {
        "current_balance": REQUIRED,
        "currency": REQUIRED,
        "user_id": IGNORED,
        "email": IGNORED,
        "autotopup_settings": REQUIRED,  # by get_top_up(); a balance does without
        "autotopup_settings.is_enabled": REQUIRED,
        "autotopup_settings.threshold": INFORMATION,
        "autotopup_settings.amount": INFORMATION,
        "autotopup_settings.currency": INFORMATION,  # amounts in another one are unknown
    },
    "/v2/billing/transactions": {
        "data": REQUIRED,
        "data.*": REQUIRED,
        "data.*.created_at": REQUIRED,
        "data.*.direction": REQUIRED,
        "data.*.type": INFORMATION,  # an unknown kind of top-up counts as a payment
        "data.*.amount": REQUIRED,
        "data.*.amount.credits": REQUIRED,
        "data.*.amount.usd": INFORMATION,  # follows from the credits
        "data.*.model": INFORMATION,
        "data.*.reference_id": INFORMATION,
        "pagination": REQUIRED,
        "pagination.next_cursor": REQUIRED,
        "pagination.has_more": REQUIRED,
    },
    "/v1/key": {
        "data": REQUIRED,
        "data.name": IGNORED,
        "data.disabled": INFORMATION,  # the API itself refuses a disabled key
        "data.prefix": REQUIRED,
        "data.scopes": IGNORED,
        "data.scopes.*": IGNORED,
        "data.limit": REQUIRED,  # may be null or missing: no limit
        "data.limit.retention": INFORMATION,  # without it, the limit counts, and what was spent is unknown
        "data.limit.threshold": REQUIRED,
        "data.created_at": INFORMATION,
        "data.updated_at": IGNORED,
        "data.monthly_usage": IGNORED,
    },
    "/v2/usage": {
        "api_key_prefix": IGNORED,
        "start": REQUIRED,
        "end": REQUIRED,
        "currency": REQUIRED,
        "spend": REQUIRED,
        "requests": REQUIRED,
        "models": REQUIRED,
        "models.*": REQUIRED,
        "models.*.model": REQUIRED,
        "models.*.spend": REQUIRED,
        "models.*.requests": REQUIRED,
        "groups": INFORMATION,
    },
    "/v2/logs": {
        "data": REQUIRED,
        "data.*": REQUIRED,
        "data.*.created": REQUIRED,
        "data.*.status": INFORMATION,  # only "succeeded" is one
        "data.*.origin": IGNORED,
        "data.*.model": INFORMATION,
        "data.*.cost": REQUIRED,  # by a report, which states the gap
        "data.*.cost.usd": INFORMATION,  # one of the two is enough
        "data.*.cost.credits": INFORMATION,
        "data.*.tokens": INFORMATION,
        "data.*.tokens.input": INFORMATION,
        "data.*.tokens.output": INFORMATION,
        "data.*.tokens.total": IGNORED,
        "data.*.request_id": REQUIRED,  # if it is null, inference_id counts
        "data.*.inference_id": INFORMATION,
        "data.*.client_request_id": INFORMATION,
        "pagination": REQUIRED,
        "pagination.limit": IGNORED,
        "pagination.offset": IGNORED,
        "pagination.total": REQUIRED,
        "pagination.has_more": REQUIRED,
    },
}


def use_of(endpoint: str, path: tuple[object, ...]) -> str:
    """Return what a field is for. A field that the table does not have is a gap in it."""
    name = ".".join("*" if isinstance(step, int) else str(step) for step in path)
    return FIELDS[endpoint][name]
