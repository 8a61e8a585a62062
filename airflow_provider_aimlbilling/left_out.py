"""The default of a threshold, to tell one that was left out from one that is ``None``."""

from __future__ import annotations


class _LeftOut:
    """There is one alone, also after a copy: Airflow copies the ``default_args`` of a group, guards included."""

    def __repr__(self) -> str:
        return "None"

    def __reduce__(self) -> str:
        return "LEFT_OUT"  # by its name, which is how copies and pickles find it again


LEFT_OUT = _LeftOut()
