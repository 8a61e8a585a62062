"""Build the documentation site into ``.build/site``, and check that its pages load nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from environment import ROOT, tools

SITE = ROOT / ".build" / "site"
# What a browser loads with a page, as opposed to links, which a reader follows.
LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*\b(?:src|srcset|poster|data)=[\"']?"
    r"((?:https?:)?//[^\"'\s>]+)"
    r"|<link\b(?![^>]*rel=[\"']?(?:canonical|next|prev))[^>]*\bhref=[\"']?((?:https?:)?//[^\"'\s>]+)"
    r"|url\([\"']?((?:https?:)?//[^\"')]+)|@import\s+[\"']((?:https?:)?//[^\"']+)"
)
ROLE = re.compile(r":(?:[a-z]+|param \w+):(?:`|<code>)[^<`]*|\.\. [a-z]+::|:(?:param|raises|returns)\b[^<]*")


def loaded_from_elsewhere() -> list[str]:
    """Return what the pages and style sheets of the site would load from other addresses."""
    found = []
    for path in sorted([*SITE.rglob("*.html"), *SITE.rglob("*.css")]):
        found += [f"{path.relative_to(SITE)}: {''.join(groups)}" for groups in LOADED.findall(path.read_text())]
    return found


def left_in_markup() -> list[str]:
    """Return the reStructuredText that is left in the API reference."""
    pages = sorted(SITE.glob("api/*/index.html"))
    return [f"{path.relative_to(SITE)}: {role}" for path in pages for role in ROLE.findall(path.read_text())]


def main() -> None:
    # Proxies that do not exist: the build fails if it tries to load anything.
    closed = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    env = {**os.environ, **closed, "NO_PROXY": "", "no_proxy": "", "NO_MKDOCS_2_WARNING": "1"}
    build = [tools("docs") / "mkdocs", "build", "--strict", "--clean"]  # quiet, it would not count warnings
    if subprocess.run(build, check=False, cwd=ROOT, env=env).returncode:
        sys.exit("The site was not built; see the messages above.")
    if found := loaded_from_elsewhere():
        sys.exit("\n".join(["These pages load something from elsewhere:", *found]))
    if found := left_in_markup():
        sys.exit("\n".join(["tools/site_docstrings.py does not know this markup:", *found]))
    pages = sum(1 for _ in SITE.rglob("*.html"))
    print(f"{SITE.relative_to(ROOT)}: {pages} pages, nothing is loaded from elsewhere")


if __name__ == "__main__":
    main()
