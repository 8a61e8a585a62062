"""The id that a task sends with its requests: it fits the API, and the task can be found in it again."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from airflow_provider_aimlbilling.money.request_id import (
    RequestId,
    encode_request_id,
    full_name,
    is_shortened,
    parse_request_id,
)

pytestmark = pytest.mark.pure

ALLOWED = re.compile(r"[A-Za-z0-9._:-]{1,128}")
TYPICAL = ("daily_llm_scoring", "scheduled__2026-11-26T00:00:00+00:00", "group.sub.score", 12, 2)
TYPICAL_ID = "airflow1:daily_llm_scoring:group.sub.score:12:2:scheduled__2026-11-26T00:00:00..2b.00:00"
# A name that looks like a shortened one.
LOOKS_SHORTENED = "a..-" + "x" * 11
ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyzABCXYZ0189_-.",
    "....-:a0",
    "2be.-:",
    "a +/~%@?#'\"\\\n\t\x00",
    "äß日本語кириллица🎉\u0301\ud800\udc00\u202e",
)


def random_name(chance: random.Random, longest: int = 250) -> str:
    alphabet = chance.choice([*ALPHABETS, "".join(ALPHABETS)])
    name = "".join(chance.choices(alphabet, k=chance.choice([1, 2, 3, 14, chance.randint(1, longest)])))
    return name + chance.choice(["", "", "", "..-" + "".join(chance.choices("aZ0_-", k=11))])


def random_task(chance: random.Random, longest: int = 250) -> tuple[str, str, str, int, int]:
    numbers = (chance.choice([-1, 0, chance.randint(0, 9999), 2**31 - 1]), chance.choice([0, 1, 12, 2**31 - 1]))
    return random_name(chance, longest), random_name(chance, longest), random_name(chance, longest), *numbers


def test_a_typical_id_is_readable_and_complete() -> None:
    assert encode_request_id(*TYPICAL) == TYPICAL_ID
    assert parse_request_id(TYPICAL_ID) == RequestId(*TYPICAL)


def test_any_task_is_found_again_in_what_the_api_stores() -> None:
    chance = random.Random(20261126)
    for _ in range(5000):
        task = random_task(chance)
        text = encode_request_id(*task)
        assert ALLOWED.fullmatch(text), task
        assert encode_request_id(*task) == text
        found = parse_request_id(text)
        assert found is not None, task
        assert found.matches(*task[:3])
        assert (found.map_index, found.try_number) == task[3:]
        for name, full in zip((found.dag_id, found.run_id, found.task_id), task[:3], strict=True):
            assert full_name(name, [random_name(chance), full]) == full
            assert name == full or is_shortened(name)
            assert not found.matches(full + "x")


def test_names_that_fit_are_complete() -> None:
    chance = random.Random(2)
    for _ in range(2000):
        names = ["".join(chance.choices("abcXYZ019_-é+", k=chance.randint(1, 6))) for _ in range(3)]
        task = (*names, -1, chance.randint(1, 9))
        assert parse_request_id(encode_request_id(*task)) == RequestId(*task)


def test_a_short_name_leaves_its_room_to_the_others() -> None:
    task = ("d", "r", "t" * 100, -1, 1)
    assert parse_request_id(encode_request_id(*task)) == RequestId(*task)


def test_tries_and_names_never_share_an_id() -> None:
    chance = random.Random(3)
    tasks = set()
    for _ in range(300):
        dag_id, run_id, task_id, map_index, try_number = random_task(chance)
        for changed in ("", "x"):  # long names that differ at the end only
            tasks |= {
                (dag_id + changed, run_id, task_id, map_index, try_number),
                (dag_id, run_id + changed, task_id, map_index, try_number),
                (dag_id, run_id, task_id + changed, map_index, try_number),
            }
        tasks |= {(dag_id, run_id, task_id, index, number) for index in (-1, 0, 1, 11) for number in (1, 2, 11)}
        tasks.add((task_id, run_id, dag_id, map_index, try_number))
    assert len({encode_request_id(*task) for task in tasks}) == len(tasks)


def test_a_shortened_name_matches_only_the_whole_name() -> None:
    dag_id, run_id, task_id = "d" * 250, "r" * 250, "group." * 40 + "task"
    found = parse_request_id(encode_request_id(dag_id, run_id, task_id, -1, 1))
    assert found is not None
    assert found.dag_id.startswith("ddd")
    assert found.matches(dag_id)
    assert found.matches(dag_id, run_id)
    assert found.matches(dag_id, task_id=task_id)
    assert not found.matches(dag_id[:-1])
    assert not found.matches(dag_id, run_id[:-1])
    assert not found.matches(dag_id, run_id, task_id + "s")
    assert full_name(found.task_id, [dag_id, task_id]) == task_id
    assert full_name(found.task_id, [dag_id]) == found.task_id
    assert full_name("short", ["other"]) == "short"


def test_a_name_that_looks_shortened_is_not_mistaken_for_one() -> None:
    found = parse_request_id(encode_request_id(LOOKS_SHORTENED, "r", "t", -1, 1))
    assert found is not None
    assert found.dag_id != LOOKS_SHORTENED
    assert found.matches(LOOKS_SHORTENED)
    assert full_name(found.dag_id, [LOOKS_SHORTENED]) == LOOKS_SHORTENED


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "airflow1:", "airflow1", "req-1", "airflow1:d:t:-1:1", "airflow1:d:t:-1:1:", "airflow1::t:-1:1:r"),
        *("airflow2:d:t:-1:1:r", "Airflow1:d:t:-1:1:r", " airflow1:d:t:-1:1:r", "airflow1:d:t:-1:1:r\n"),
        *("airflow1:d:t:-2:1:r", "airflow1:d:t:01:1:r", "airflow1:d:t:-1:01:r", "airflow1:d:t:-1:-1:r"),
        *("airflow1:d:t:٣:1:r", "airflow1:d:t:1:2147483648:r", f"airflow1:d:t:{'1' * 100}:1:r"),
        *("airflow1:d:t:-1:1:r+r", "airflow1:d..:t:-1:1:r", "airflow1:d..2B.:t:-1:1:r", "airflow1:d..61.:t:-1:1:r"),
        *("airflow1:d..ff.:t:-1:1:r", "airflow1:d..2b...2b.:t:-1:1:r", "airflow1:d.:t:-1:1:r", "airflow1:d é:t:-1:1:r"),
        *(f"airflow1:d:t:-1:1:{'r' * 128}", "airflow1:d..2e2e.-xxxxxxxxxxx:t:-1:1:r", "\ud800", "airflow1:d:t:-1:1:\0"),
    ],
)
def test_other_text_is_no_id_of_a_task(text: str | None) -> None:
    assert parse_request_id(text) is None


def test_parsing_never_raises_and_accepts_only_what_was_encoded() -> None:
    chance = random.Random(4)
    parsed = 0
    for _ in range(5000):
        text = list(encode_request_id(*random_task(chance, longest=20)))
        for _ in range(chance.randint(1, 3)):
            text[chance.randrange(len(text))] = chance.choice(["", ".", ":", "-", "2", "b", "é", "\n"])
        changed = "".join(text)
        if (found := parse_request_id(changed)) is None:
            continue
        parsed += 1
        names = (found.dag_id, found.run_id, found.task_id)
        if not any(is_shortened(name) for name in names) and len(changed) <= 128:
            assert encode_request_id(*names, found.map_index, found.try_number) == changed
    assert parsed > 100


@pytest.mark.parametrize(
    "task",
    [
        ("", "r", "t", -1, 1),
        ("d", "", "t", -1, 1),
        ("d", "r", "", -1, 1),
        ("d", "r", "t", -2, 1),
        ("d", "r", "t", -1, -1),
        ("d", "r", "t", 2**31, 1),
        ("d", "r", "t", None, 1),
        ("d", "r", "t", 1.0, 1),
        ("d", "r", "t", -1, True),
        (5, "r", "t", -1, 1),
    ],
)
def test_what_is_no_task_gets_no_id(task: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="No task has these names and numbers"):
        encode_request_id(*task)


@pytest.mark.parametrize("name", ["é.-AAAAAAAAAAA", "a+.-abcdefghijk", "é..-AAAAAAAAAAA", "a..-AAAAAAAAAAA"])
def test_a_name_that_looks_shortened_once_it_is_escaped_is_found_again(name: str) -> None:
    found = parse_request_id(encode_request_id(name, name, name, -1, 1))
    assert found
    assert found.matches(name, name, name)
    assert not found.matches(f"{name}x")
