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


class Docstring(griffe.Docstring):
    """A docstring whose errors are names that can be linked, and whose fields have their types."""

    @property
    def parsed(self) -> list[griffe.DocstringSection]:  # type: ignore[override]
        """Parse it when a page shows it, because only then has Griffe found the parameters of data classes."""
        # Without warnings, which are about arguments that are passed on as keyword arguments.
        sections = griffe.parse_sphinx(self, warnings=False)
        for section in sections:
            for entry in section.value if isinstance(section.value, list) else []:
                if isinstance(entry, griffe.DocstringRaise):
                    entry.annotation = griffe.ExprName(str(entry.annotation), parent=self.parent.package["exceptions"])
                elif isinstance(entry, griffe.DocstringParameter) and entry.annotation is None:
                    field = self.parent.members.get(entry.name)  # of a named tuple
                    entry.annotation = getattr(field, "annotation", None)
        return sections


class Docstrings(griffe.Extension):
    """Turn the docstrings of the package into Markdown."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite all docstrings, once the names that they may link are known."""
        found = [pkg, *objects(pkg)]
        self.anchors = {
            item.path: item.path if item.docstring else item.parent.path
            for item in found
            if item.module.path in SHOWN and not item.name.startswith("_") and item.parent is not None
        }
        for item in found:
            if old := item.docstring:
                text = ROLE.sub(self._link, LITERAL.sub(":", old.value))
                item.docstring = Docstring(text, lineno=old.lineno, endlineno=old.endlineno, parent=item)
            if isinstance(item, griffe.Class):
                self._hide_private_bases(item)

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
        places = [anchor for path, anchor in self.anchors.items() if path == target or path.endswith(f".{target}")]
        return f"[`{name}`][{places[0]}]" if len(places) == 1 else f"`{name}`"
