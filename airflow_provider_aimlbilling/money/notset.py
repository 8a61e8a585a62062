"""The default of parameters for which ``None`` and "not passed" mean different things."""

from __future__ import annotations


class _NotSet:
    """A singleton that survives copies: Airflow deep-copies the ``default_args`` of a task group, guards included."""

    def __repr__(self) -> str:
        return "NOTSET"

    def __reduce__(self) -> str:
        return "NOTSET"  # pickle and copy look this module-level name up again


NOTSET = _NotSet()
