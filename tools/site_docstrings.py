"""
An extension of Griffe: turns the reStructuredText in docstrings into Markdown.

That is the roles, such as ``:meth:`Balance.to_dict```, and the colons before a literal block. The site shows the fields
(``:param x:``) as lists by itself.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))
from site_modules import API, PACKAGE

SHOWN = {f"{PACKAGE}.{module}" for modules in API.values() for module in modules}
ROLE = re.compile(r":(?:class|meth|func|attr|exc|mod|data):`(~?)([\w.]+)`")
LITERAL = re.compile(r"::$", re.MULTILINE)


def objects(parent: griffe.Object) -> Iterator[griffe.Object]:
    """Yield everything that a package defines, without what it imports."""
    for member in parent.members.values():
        if not member.is_alias:
            yield member  # type: ignore[misc]
            yield from objects(member)  # type: ignore[arg-type]


class Docstrings(griffe.Extension):
    """Turn the docstrings of the package into Markdown."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite all docstrings, once the names that they may link are known."""
        found = [pkg, *objects(pkg)]
        self.paths = [item.path for item in found if item.module.path in SHOWN and not item.name.startswith("_")]
        for item in found:
            if item.docstring:
                text = LITERAL.sub(":", item.docstring.value)
                item.docstring.value = ROLE.sub(self._link, text)
                item.docstring.parsed = self._with_linked_errors(item)
            if isinstance(item, griffe.Class):
                self._hide_private_bases(item)

    @staticmethod
    def _with_linked_errors(item: griffe.Object) -> list[griffe.DocstringSection]:
        """Parse a docstring, and turn the names of its errors into names that are linked."""
        sections = griffe.parse_sphinx(item.docstring)  # type: ignore[arg-type]
        for section in sections:
            if isinstance(section, griffe.DocstringSectionRaises):
                for error in section.value:
                    error.annotation = griffe.ExprName(str(error.annotation), parent=item.package["exceptions"])
        return sections

    @staticmethod
    def _hide_private_bases(item: griffe.Class) -> None:
        """Replace private bases by their own bases, and keep the signature that a class inherits from them."""
        public: list[griffe.Expr | str] = []
        for base in item.bases:
            private = item.module.members.get(str(base)) if str(base).startswith("_") else None
            if private is None:
                public.append(base)
                continue
            public += private.bases  # type: ignore[union-attr]
            if "__init__" in private.members and "__init__" not in item.members:
                item.members["__init__"] = griffe.Alias("__init__", private.members["__init__"], parent=item)  # type: ignore[arg-type]
        item.bases = public

    def _link(self, role: re.Match[str]) -> str:
        """Return a link to what a role names if the site shows it, and its name otherwise."""
        short, target = role.groups()
        name = target.rpartition(".")[2] if short else target
        places = [path for path in self.paths if path == target or path.endswith(f".{target}")]
        return f"[`{name}`][{places[0]}]" if len(places) == 1 else f"`{name}`"
