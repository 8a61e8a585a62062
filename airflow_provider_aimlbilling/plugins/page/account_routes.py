"""The routes for connections, their accounts, and what they spent."""

from __future__ import annotations

from fastapi import APIRouter


def new_router() -> APIRouter:
    """Return the routes, with a new cache of figures."""
    return APIRouter()
