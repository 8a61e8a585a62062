"""The models that the sandbox offers, and the response of ``GET /v1/models``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

Catalogue = Sequence[Mapping[str, Any]]


def _rate(origin: str, price: str, per: int = 1_000_000, name: str = "token", content: str = "text") -> dict[str, Any]:
    """Return a rate in the shape of the live catalogue, which the vendor's OpenAPI document does not show."""
    usual = {"type": "charge", "measure": "output", "phase": "inference", "author": "user"}
    return {**usual, "name": name, "content": content, "origin": origin, "price": Decimal(price), "per": per}


_GPT = {
    "id": "sandbox/gpt",
    "aliases": ["gpt"],
    "info": {"name": "Sandbox GPT", "developer": "Sandbox"},
    "tags": [],
    "pricing": {
        "kind": "fixed",
        "currency": "USD",
        "units": [_rate("provided", "2.5"), _rate("generated", "10"), _rate("cached", "0.25")],
    },
}

CATALOGUE: Catalogue = [
    {
        "id": "sandbox/chat",
        "aliases": ["chat"],
        "type": "openai/chat-completions",
        "info": {"name": "Sandbox Chat", "developer": "Sandbox"},
        "tags": [],
        "pricing": {
            "kind": "fixed",
            "currency": "USD",
            "units": [
                {"name": "token", "measure": "input", "price": Decimal("2.5"), "per": 1_000_000},
                {"name": "token", "measure": "output", "price": Decimal(10), "per": 1_000_000},
            ],
        },
    },
    {
        "id": "sandbox/speech",
        "aliases": [],
        "type": "internal/text-to-speech",
        "info": {"name": "Sandbox Speech", "developer": "Sandbox"},
        "tags": [],
        "pricing": {
            "kind": "fixed",
            "currency": "USD",
            "units": [{"name": "character", "measure": "input", "price": Decimal("0.039"), "per": 1000}],
        },
    },
    {
        "id": "sandbox/video",
        "aliases": [],
        "type": "internal/video-generations/submit",
        "info": {"name": "Sandbox Video", "developer": "Sandbox"},
        "tags": [],
        "pricing": {
            "kind": "variants",
            "currency": "USD",
            "dimensions": ["resolution"],
            "variants": [
                {"when": {"resolution": "720p"}, "price": Decimal("0.39"), "unit": "second", "per": 1},
                {"when": {"resolution": "1080p"}, "price": Decimal("0.65"), "unit": "second", "per": 1},
            ],
        },
    },
    # One model under two endpoint types, as is common in the live catalogue.
    {**_GPT, "type": "openai/chat-completions"},
    {**_GPT, "type": "openai/responses"},
    {
        "id": "sandbox/image",
        "aliases": [],
        "type": "internal/image-generations",
        "info": {"name": "Sandbox Image", "developer": "Sandbox"},
        "tags": [],
        "pricing": {
            "kind": "fixed",
            "currency": "USD",
            "units": [{"name": "image", "measure": "output", "price": Decimal("7.8e-03"), "per": 1}],
        },
    },
    {
        "id": "sandbox/transcriber",
        "aliases": [],
        "type": "internal/speech-to-text",
        "info": {"name": "Sandbox Transcriber", "developer": "Sandbox"},
        "tags": [],
        "pricing": {
            "kind": "fixed",
            "currency": "USD",
            "units": [_rate("provided", "0.0043", 60, "second", "audio")],
        },
    },
    {
        "id": "sandbox/mini",
        "aliases": [],
        "type": "openai/chat-completions",
        "info": {"name": "Sandbox Mini", "developer": "Sandbox"},
        "tags": [],
        "pricing": {
            "kind": "fixed",
            "currency": "USD",
            "units": [_rate("provided", "7.8e-09", 1), _rate("generated", "3.12e-08", 1)],
        },
    },
    {
        "id": "sandbox/agent",
        "aliases": [],
        "type": "openai/responses",
        "info": {"name": "Sandbox Agent", "developer": "Sandbox"},
        "tags": [],
        "pricing": {"kind": "variable", "currency": "USD"},
    },
]


def list_models(catalogue: Catalogue, query: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """
    Return the response of ``GET /v1/models``.

    :param catalogue: all models.
    :param query: the query parameters, each with all its values.
    """
    ids = {part.lower() for value in query.get("id", []) for part in value.split(",")}
    sections = {part for value in query.get("include", []) for part in value.split(",")}
    with_pricing = bool(sections & {"pricing", "all"}) or query.get("details", [""])[0] in ("true", "1")
    types, tags = (set(",".join(query.get(name, [])).split(",")) - {""} for name in ("type", "tags"))
    return {
        "object": "list",
        "data": [
            {name: value for name, value in model.items() if with_pricing or name != "pricing"}
            for model in catalogue
            if (not ids or ids & {name.lower() for name in (model["id"], *model["aliases"])})
            and (not types or model["type"] in types)
            and (not tags or tags & set(model["tags"]))
        ],
    }
