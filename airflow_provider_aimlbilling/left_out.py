"""The default of a threshold, to tell one that was left out from one that is ``None``."""

from __future__ import annotations


class _LeftOut:
    def __repr__(self) -> str:
        return "None"


LEFT_OUT = _LeftOut()
