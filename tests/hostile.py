"""Texts that must not reach a log, a database or a page as they are, and a check that they did not."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

MARK = "Zz9"  # in every text, to see that it was passed on at all
TEXTS = {
    "NUL": f"a\0b{MARK}",
    "lone surrogate": f"\ud800{MARK}\udfff",
    "ANSI colours": f"\x1b[31;1m{MARK}\x1b[0m",
    "ANSI title and link": f"\x1b]0;title\x07\x1b]8;;http://x.example\x1b\\{MARK}",
    "C1 sequence": f"\x9b2J{MARK}",
    "lines": f"{MARK}\n[2026-01-01] ERROR - forged\r\nline\u2028and\u2029more\x0b\x0c\x85",
    "bidirectional": f"\u202e{MARK}\u2066\u200f\u061c",
    "invisible": f"{MARK}\u200b\ufeff\u00ad\U000e0041",
    "HTML": f"<script>alert(1)</script>{MARK}<img src=x onerror=alert(1)>",
    "open tag": f"<svg/onload=alert(1) {MARK}",
    "rich markup": f"[link=http://x.example]{MARK}[/link][bold]",
    "very long": MARK + "x" * 1_000_000,
    "very long sequences": MARK + "\x1b[31m" * 50_000,
    "many combining marks": MARK + "\u0301" * 10_000,
}


def is_clean(text: str) -> bool:
    """Return whether a text is safe everywhere. It may hold a quote of at most 500 characters, and words around it."""
    return (
        len(text) < 4000
        and not set(text) & set("<>[]")
        and all(unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for char in text)
    )


def texts_in(value: Any) -> Iterator[str]:
    """Yield all text in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from (*texts_in(name), *texts_in(part))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from texts_in(part)


def with_text(body: Any, text: str) -> Iterator[tuple[str, Any]]:
    """Yield copies of a JSON body, each with the text in one more place: as a value, as a name, or in a list."""

    def places(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        if isinstance(value, str):
            yield path
        elif isinstance(value, dict):
            for name, part in value.items():
                yield from places(part, (*path, name))
        elif isinstance(value, list):
            for number, part in enumerate(value[:2]):
                yield from places(part, (*path, number))

    for path in places(body, ()):
        changed = deepcopy(body)
        parent = changed
        for step in path[:-1]:
            parent = parent[step]
        parent[path[-1]] = text
        yield "/".join(map(str, path)), changed
    extended = deepcopy(body)
    extended[text] = text
    yield "a new field", extended


def encode(body: Any) -> bytes:
    """Return a body as JSON, lone surrogates included."""
    return json.dumps(body).encode()
