"""A row of the API's request log: what one request to a model cost, and which task sent it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from airflow_provider_aimlbilling.money.amount import Amount


@dataclass(frozen=True)
class LoggedRequest:
    """
    One request to a model, as the API's log reports it.

    :param created: when the API received it, in UTC.
    :param succeeded: whether it succeeded; failed requests cost nothing. ``None`` if the row does not say, or in words
        that this version does not know.
    :param model: the model's name.
    :param cost: what it cost; ``None`` if the row has no believable cost, which is never counted as zero.
    :param input_tokens: tokens that were sent; ``None`` if unknown.
    :param output_tokens: tokens that were generated; ``None`` if unknown.
    :param request_id: the API's own id of the request, which no other row has.
    :param client_request_id: what the caller sent as ``X-Client-Request-Id``; ``None`` if nothing.
    """

    created: datetime
    succeeded: bool | None
    model: str
    cost: Amount | None
    input_tokens: int | None
    output_tokens: int | None
    request_id: str
    client_request_id: str | None
