"""Fields of a JSON answer: exact numbers, and errors that show nothing personal."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_aimlbilling.client.json_fields import (
    amount_field,
    count_field,
    parse_object,
    require_field,
    time_field,
)
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError, AimlBillingUnavailable


def test_numbers_keep_every_digit() -> None:
    parsed = parse_object(b'{"whole": 9007199254740993, "fraction": 0.1000000000000000000001, "nan": NaN}')
    assert parsed["whole"] == Decimal(9007199254740993)
    assert parsed["fraction"] == Decimal("0.1000000000000000000001")
    assert parsed["nan"].is_nan()


def test_a_body_that_is_not_json_is_no_answer_and_json_of_another_type_is_a_wrong_one() -> None:
    with pytest.raises(AimlBillingUnavailable):
        parse_object(b"<html>")
    with pytest.raises(AimlBillingContractError, match="list"):
        parse_object(b"[]")


def test_an_amount_may_have_the_long_tail_of_a_binary_sum() -> None:
    assert amount_field({"spend": Decimal(repr(0.00001 + 0.00002))}, "spend").credits == Decimal(
        "0.000030000000000000004"
    )
    with pytest.raises(AimlBillingContractError):
        amount_field({"spend": Decimal("1e-41")}, "spend")


@pytest.mark.parametrize("received", ["user@example.com", ["user@example.com"], {"email": "user@example.com"}])
def test_errors_show_the_type_of_an_unexpected_value_but_not_its_text(received: Any) -> None:
    with pytest.raises(AimlBillingContractError, match=f"but sent a {type(received).__name__}") as caught:
        require_field({"disabled": received}, "disabled", bool)
    assert "user@example.com" not in str(caught.value)


def test_times_are_converted_to_utc() -> None:
    noon = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)
    for text in ("2026-11-01T12:00:00Z", "2026-11-01T12:00:00.000Z", "2026-11-01T14:00:00+02:00", "2026-11-01T12:00"):
        assert time_field({"at": text}, "at") == noon
    for text in ("yesterday", "0001-01-01T00:00:00+05:00"):
        with pytest.raises(AimlBillingContractError, match="a time"):
            time_field({"at": text}, "at")


@pytest.mark.parametrize("number", ["1e1000000", "1e5000", "9007199254740993"])
def test_a_huge_count_is_refused_before_it_is_written_out(number: str) -> None:
    """As an integer, the first one takes half a minute in which no other thread runs."""
    with pytest.raises(AimlBillingContractError, match="a whole number up to 9,007,199,254,740,992"):
        count_field(parse_object(f'{{"requests": {number}}}'.encode()), "requests")
