"""Time zones by their names."""

from __future__ import annotations

import re
from datetime import timezone, tzinfo
from zoneinfo import ZoneInfo

# Zones of the data that are not IANA names: what they mean differs between machines, or from what people expect.
_NOT_A_NAME = re.compile(r"(localtime|Factory|posixrules|(right|posix)/.*)", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*", re.ASCII)


def time_zone(name: object) -> tzinfo:
    """
    Return a time zone.

    :param name: its IANA name, such as ``Europe/Berlin``.
    :raises ValueError: if there is no such zone, or this machine does not have its data.
    """
    if name == "UTC":
        return timezone.utc  # without the time zone data that a small image may lack
    try:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or _NOT_A_NAME.fullmatch(name):
            raise ValueError
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # OSError: the name is that of a folder of the data
        raise ValueError(
            f"{str(name)[:40]!r} is not a time zone of this machine. Write an IANA name such as Europe/Berlin. If it "
            "is one, install the Python package tzdata."
        ) from None
