"""
Clean text that comes from the API.

It ends up in logs, in Airflow's database and on web pages. One NUL character makes PostgreSQL refuse an event, and
Airflow's triggerer does not survive that. So all text is cleaned here, where it is read, and never later.
"""

from __future__ import annotations

import re
import unicodedata

MAX_TEXT = 500  # characters; a longer text is cut
HIDDEN = "***"  # in place of the API key
_MIN_KEY = 8  # characters

# Escape sequences of terminals, and tags of HTML and similar markup.
_SEQUENCES = re.compile(
    r"[\x1b\x9b](?:\[?[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)?|</?[A-Za-z!?][^<>]{0,200}>"
)
# Airflow's command line reads square brackets as markup and drops what is inside.
_BRACKETS = str.maketrans({"[": "(", "]": ")", "<": " ", ">": " "})
_WORD = r"[!-;=?-Z\\^-~]+"  # printable ASCII without brackets
_ORDINARY = re.compile(f"(?:{_WORD}(?: {_WORD})*)?")


def clean_text(text: str, max_length: int = MAX_TEXT, key: str | None = None) -> str:
    """
    Return a text that is safe to print, to store and to show on a page.

    One line; without control characters, invisible and bidirectional formatting, lone surrogates, terminal sequences
    and markup; square brackets become round ones.

    :param text: what the API sent.
    :param max_length: most characters of the result. A text that is cut ends with "…".
    :param key: the API key, which the result must not contain. One of less than eight characters is none.
    """
    if len(text) <= max_length and _ORDINARY.fullmatch(text) and not (key and key in text):
        return text
    if key and len(key) >= _MIN_KEY:
        # Cleaning may remove what hides the key, and cutting may leave a part of it.
        cleaned = clean_text(text.replace(key, HIDDEN), max_length + len(key))
        return clean_text(cleaned.replace(clean_text(key), HIDDEN), max_length)
    text = text[: 8 * max_length]  # what follows takes time in proportion to the length
    text = _SEQUENCES.sub(" ", text).translate(_BRACKETS)
    # Categories C* are control, formatting, surrogates, private use and unassigned; Z* are spaces and line separators.
    kept = (" " if unicodedata.category(char) in _SPACES else char for char in text if _is_visible(char))
    text = " ".join("".join(kept).split())
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"


_SPACES = frozenset({"Zs", "Zl", "Zp", "Cc"})


def _is_visible(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] != "C" or (category == "Cc" and char.isspace())
