"""The id that a task sends with each request, so that the API's log says what the task cost."""

from __future__ import annotations
