"""
Take the pictures of the billing page in docs/images again: light and dark, on a desktop and on a phone.

The page shows the figures of its tests, from the server of its tests. Needs Playwright and a Chromium.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from page_server import PageServer
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
MAX_BYTES = 200_000
SIZES = {"": (1060, 1330), "-phone": (400, 1200)}


def main() -> None:
    if CHROMIUM is None:
        sys.exit("No Chromium is installed.")
    with PageServer() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for suffix, (width, height) in SIZES.items():
            for mode in ("light", "dark"):
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=mode, locale="en-GB", timezone_id="UTC"
                )
                page = context.new_page()
                page.goto(server.url)
                page.locator("#legend li").first.wait_for()
                page.locator("body:not(:has([aria-busy]))").wait_for()
                path = IMAGES / f"billing-page{suffix}-{mode}.png"
                size = len(page.screenshot(path=path))
                if size > MAX_BYTES:
                    sys.exit(f"{path.name} has {size:,} bytes, more than {MAX_BYTES:,}.")
                print(f"{path.name}: {size:,} bytes")
                context.close()
        browser.close()


if __name__ == "__main__":
    main()
