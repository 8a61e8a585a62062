"""
The id that a task sends with its requests, and how to read the task back from it.

An id looks like this::

    airflow1:daily_llm_scoring:group.sub.score:12:2:scheduled__2026-11-26T00:00:00..2b.00:00

After the prefix come the DAG, the task, the map index (-1 if the task is not mapped), the number of the try, and the
run, which is last because it may contain colons. Characters that the API does not store are written as the hexadecimal
digits of their UTF-8 bytes between ``..`` and ``.``.

An id has at most 128 characters. In longer ones, each name that is too long is cut, and ends in ``..-`` and a hash of
the whole name.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

PREFIX = "airflow1:"
MAX_LENGTH = 128  # the API drops a longer id without an error
_MAX_NUMBER = 2**31 - 1  # Airflow's columns hold no more

_HASH_LENGTH = 11  # characters of 6 bits each: 66 bits
_HASH_MARK = "..-"  # an escape never starts like this
_SHORTENED = re.compile(r"(?P<head>.*)\.\.-(?P<hash>[A-Za-z0-9_-]{11})", re.DOTALL)
# What is escaped: characters outside the alphabet, the separator, and dots before them, before a dot or at the end. So
# two dots in a row always start an escape. In the name of a run, the separator stays.
_TO_ESCAPE = re.compile(r"(?:[^A-Za-z0-9._-]|\.(?![A-Za-z0-9_-]))+")
_TO_ESCAPE_IN_RUN = re.compile(r"(?:[^A-Za-z0-9._:-]|\.(?![A-Za-z0-9_:-]))+")
_ESCAPED = re.compile(r"\.\.((?:[0-9a-f]{2})+)\.")
_REQUEST_ID = re.compile(r"airflow1:([^:]+):([^:]+):(-1|[0-9]+):([0-9]+):(.+)")


@dataclass(frozen=True)
class RequestId:
    """
    The task that sent a request. A name that was too long for the id is shortened, see :func:`is_shortened`.

    :param dag_id: the DAG.
    :param run_id: the DAG run.
    :param task_id: the task, with the names of its task groups.
    :param map_index: the index of a mapped task; -1 if the task is not mapped.
    :param try_number: the number of the try.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int

    def matches(self, dag_id: str, run_id: str | None = None, task_id: str | None = None) -> bool:
        """
        Return whether the request came from a DAG, from a run of it, or from a task. Shortened names match too.

        :param dag_id: the full name of the DAG.
        :param run_id: the full name of the run; ``None`` for any.
        :param task_id: the full name of the task; ``None`` for any.
        """
        return (
            is_name_of(self.dag_id, dag_id)
            and (run_id is None or is_name_of(self.run_id, run_id))
            and (task_id is None or is_name_of(self.task_id, task_id))
        )


def encode_request_id(dag_id: str, run_id: str, task_id: str, map_index: int, try_number: int) -> str:
    """
    Return the id for the requests of a try. It is the same for all of them.

    :param dag_id: the DAG.
    :param run_id: the DAG run.
    :param task_id: the task.
    :param map_index: the index of a mapped task; -1 if the task is not mapped.
    :param try_number: the number of the try.
    :returns: 1 to 128 characters of ``A-Za-z0-9._:-``.
    :raises ValueError: a name is empty, or a number is not one that Airflow uses.
    """
    names_are_text = all(isinstance(name, str) and name for name in (dag_id, run_id, task_id))
    numbers_are_whole = all(type(number) is int for number in (map_index, try_number))
    if not (names_are_text and numbers_are_whole) or not (
        -1 <= map_index <= _MAX_NUMBER and 0 <= try_number <= _MAX_NUMBER
    ):
        raise ValueError(
            f"No task has these names and numbers: {dag_id!r}, {run_id!r}, {task_id!r}, {map_index!r}, {try_number!r}."
        )
    numbers = f"{map_index:d}:{try_number:d}"
    room = MAX_LENGTH - len(f"{PREFIX}::{numbers}:")
    names = {"dag": (dag_id, _TO_ESCAPE), "task": (task_id, _TO_ESCAPE), "run": (run_id, _TO_ESCAPE_IN_RUN)}
    encoded: dict[str, str] = {}
    # The shortest name first: what it leaves of its share is room for the others.
    for kind in sorted(names, key=lambda kind: len(_escape(*names[kind]))):
        encoded[kind] = _fit(*names[kind], room // (len(names) - len(encoded)))
        room -= len(encoded[kind])
    return f"{PREFIX}{encoded['dag']}:{encoded['task']}:{numbers}:{encoded['run']}"


def parse_request_id(text: str | None) -> RequestId | None:
    """
    Return the task that an id belongs to; ``None`` if :func:`encode_request_id` did not create it.

    :param text: what the API's log holds as ``client_request_id``.
    """
    if text is None or len(text) > MAX_LENGTH or not (match := _REQUEST_ID.fullmatch(text)):
        return None
    dag, task, map_index, try_number, run = match.groups()
    if str(int(map_index)) != map_index or str(int(try_number)) != try_number:
        return None
    if max(int(map_index), int(try_number)) > _MAX_NUMBER:
        return None
    dag_id, task_id, run_id = _name(dag, _TO_ESCAPE), _name(task, _TO_ESCAPE), _name(run, _TO_ESCAPE_IN_RUN)
    if dag_id is None or task_id is None or run_id is None:
        return None
    return RequestId(dag_id, run_id, task_id, int(map_index), int(try_number))


def is_shortened(name: str) -> bool:
    """
    Return whether a name of a :class:`RequestId` was too long for the id: its start, ``..-`` and a hash.

    :param name: the name.
    """
    return _SHORTENED.fullmatch(name) is not None


def is_name_of(name: str, full: str) -> bool:
    """
    Return whether a name of a :class:`RequestId`, shortened or not, stands for a full name.

    :param name: the name of the :class:`RequestId`.
    :param full: the full name.
    """
    if (match := _SHORTENED.fullmatch(name)) is None:
        return name == full
    return full.startswith(match["head"]) and _hash(full) == match["hash"]


def full_name(name: str, candidates: Iterable[str]) -> str:
    """
    Return the full name that a name of a :class:`RequestId` stands for; the name itself if no candidate matches.

    :param name: the name, shortened or not.
    :param candidates: full names.
    """
    if not is_shortened(name):
        return name
    return next((full for full in candidates if is_name_of(name, full)), name)


def _fit(name: str, to_escape: re.Pattern[str], room: int) -> str:
    """Return a name as the id holds it. A full name that looks shortened, escaped or not, is shortened, too."""
    escaped = _escape(name, to_escape)
    if len(escaped) <= room and not is_shortened(name) and not is_shortened(escaped):
        return escaped
    room -= len(_HASH_MARK) + _HASH_LENGTH
    head = next(head for end in range(room, -1, -1) if len(head := _escape(name[:end], to_escape)) <= room)
    return f"{head}{_HASH_MARK}{_hash(name)}"


def _name(encoded: str, to_escape: re.Pattern[str]) -> str | None:
    """Return the name that a part of an id holds; ``None`` if :func:`_fit` would not have written it like this."""
    match = _SHORTENED.fullmatch(encoded)
    head, mark = (match["head"], _HASH_MARK + match["hash"]) if match else (encoded, "")
    try:
        name = _ESCAPED.sub(lambda escape: bytes.fromhex(escape[1]).decode("utf-8", "surrogatepass"), head)
    except UnicodeDecodeError:
        return None
    if _escape(name, to_escape) != head or (not mark and is_shortened(name)):
        return None
    return name + mark


def _escape(name: str, to_escape: re.Pattern[str]) -> str:
    return to_escape.sub(lambda found: f"..{found[0].encode('utf-8', 'surrogatepass').hex()}.", name)


@lru_cache(maxsize=4096)  # a report compares the same few names with each of many rows
def _hash(name: str) -> str:
    digest = sha256(name.encode("utf-8", "surrogatepass")).digest()
    return urlsafe_b64encode(digest).decode()[:_HASH_LENGTH]
