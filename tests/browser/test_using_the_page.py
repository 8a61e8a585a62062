"""How the billing page behaves in use: refreshes, keyboard, colour modes, narrow screens, links, accessibility."""

from __future__ import annotations

from typing import Any

import page_figures as figures
import pytest
from accessibility import serious_findings
from page_server import Fault

pytestmark = pytest.mark.pure

PHONE = {"viewport": {"width": 400, "height": 800}, "has_touch": True}
DARK = {"color_scheme": "dark"}
MODE = "document.documentElement.dataset.theme"
FRAMED = "can escape its sandboxing"  # what Chromium says about the frame of Airflow
NETWORK = ("Failed to load resource", "net::")


def requests_of(tab: Any, block: str) -> int:
    return sum(request.startswith(block) for request in tab.server.requests)


def test_a_refresh_changes_only_what_has_changed(tab: Any) -> None:
    page = tab.open()
    page.get_by_text("The same figures as a table").click()
    page.locator("#gates tbody tr").nth(1).locator("a").focus()
    page.evaluate("scrollBy(0, 300)")  # at once, unlike a mouse wheel
    page.evaluate(
        """() => {
            window.kept = [...document.querySelectorAll("article, tr, details, canvas, a, #summary li")];
            window.place = scrollY;
            window.changes = 0;
            new MutationObserver((records) => (window.changes += records.length)).observe(
                document.getElementById("gates-table"), { childList: true, subtree: true, characterData: true });
        }"""
    )
    tab.server.figures["gates"]["gates"][0]["asks"] = "3.33 USD"
    page.evaluate("document.getElementById('refresh').click()")  # without taking the focus
    tab.settle()
    assert "3.33 USD" in tab.text("#gates")
    assert page.evaluate("kept.every((element) => element.isConnected)")
    assert page.evaluate("document.activeElement.textContent") == "enrich.gate [0]"
    assert page.evaluate("scrollY === place")
    assert page.locator("#spending-details[open]").count() == 1
    assert page.evaluate("changes") <= 6, "the text that changed, and ages"


def test_focus_stays_in_the_block_when_its_row_goes(tab: Any) -> None:
    page = tab.open()
    page.locator("#gates tbody a").first.focus()
    del tab.server.figures["gates"]["gates"][0]
    page.evaluate("document.getElementById('refresh').click()")
    tab.settle()
    assert page.evaluate("document.activeElement.id") == "gates-title"


def test_the_page_refreshes_by_itself_while_it_is_seen(tab: Any) -> None:
    page = tab.page
    page.clock.install()
    tab.open()
    page.clock.run_for(59_000)
    assert requests_of(tab, "held") == 1
    page.clock.run_for(10_000)
    tab.settle()
    assert requests_of(tab, "held") == 2
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true})"
    page.evaluate(hide % "true")
    page.clock.run_for(600_000)
    tab.settle()
    assert requests_of(tab, "held") == 2, "nobody looks"
    page.evaluate(hide % "false")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    tab.settle()
    assert requests_of(tab, "held") == 3
    page.click("#refresh")
    tab.settle()
    assert requests_of(tab, "held") == 4
    assert requests_of(tab, "connections/aimlbilling_default/account") == 4
    assert requests_of(tab, "connections/aimlbilling_default/spending") == 4


def test_gates_are_read_after_the_balances_that_they_are_compared_with(tab: Any) -> None:
    page = tab.open()

    def last(part: str) -> int:
        return max(at for at, request in enumerate(tab.server.requests) if part in request)

    assert last("gates") > last("/account"), "the first time"
    page.click("#refresh")
    tab.settle()
    assert last("gates") > last("/account"), "and each other time"
    assert requests_of(tab, "gates") <= 4


def test_only_the_summary_is_announced_and_only_when_it_changes(tab: Any) -> None:
    page = tab.open()
    assert page.locator("[aria-live]").evaluate_all("(all) => all.map((each) => each.id)") == ["summary"]
    page.evaluate(
        """() => {
            window.changes = 0;
            new MutationObserver((records) => (window.changes += records.length)).observe(
                document.getElementById("summary"), { childList: true, subtree: true, characterData: true });
        }"""
    )
    page.click("#refresh")
    tab.settle()
    assert page.evaluate("changes") == 0
    tab.server.figures["gates"] = figures.gates(5)
    page.click("#refresh")
    tab.settle()
    assert page.evaluate("changes") > 0


def test_everything_is_reached_by_keyboard_and_the_focus_is_seen(tab: Any) -> None:
    tab.server.figures["gates"] = figures.gates(25)
    page = tab.open()
    reached = []
    for _ in range(80):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            """() => {
                const element = document.activeElement;
                const shown = element.matches("input") ? element.nextElementSibling : element;
                const style = getComputedStyle(shown);
                const name = element === document.body ? "BODY" : element.id || element.textContent.trim();
                return [name, style.outlineStyle, parseFloat(style.outlineWidth)];
            }"""
        )
        if focused[0] in ("BODY", "refresh") and reached:
            break
        reached.append(focused)
    names = [name for name, _, _ in reached]
    for name in ("refresh", "connection", "gates-all", "The same figures as a table", "wait_for_budget"):
        assert name in names
    assert "caption_images" in names
    assert [name for name, style, width in reached if style == "none" or width < 2] == []
    page.locator("[name=days]:checked").focus()
    page.keyboard.press("ArrowRight")
    tab.settle()
    assert "runs?days=92" in tab.server.requests


@pytest.mark.parametrize("tab", [DARK, {"color_scheme": "light"}], indirect=True)
def test_the_colour_mode_is_that_of_airflow(tab: Any) -> None:
    page = tab.open()
    system = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'")
    other = {"dark": "light", "light": "dark"}[system]
    assert page.evaluate(MODE) == system, "opened on its own, without a choice in Airflow"
    page.evaluate(f"localStorage.setItem('theme', '{other}')")
    tab.open()
    assert page.evaluate(MODE) == other, "opened on its own, with a choice in Airflow"
    tab.expected = (FRAMED,)
    page.goto(tab.server.frame_url)
    page.frame_locator("iframe").locator("#legend li").first.wait_for()
    frame = page.frame(url=tab.server.url)
    for mode in ("light", "dark", "light"):
        page.evaluate(f"document.documentElement.className = '{mode}'")
        frame.locator(f"html[data-theme={mode}]").wait_for()
        ground = frame.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (mode == "light")
        bars = frame.evaluate("Chart.getChart('chart').data.datasets[0].backgroundColor")
        assert bars == {"light": "#3a6db3", "dark": "#7fb0ee"}[mode]


@pytest.mark.parametrize("tab", [PHONE], indirect=True)
def test_nothing_is_wider_than_a_phone(tab: Any) -> None:
    names = [f"aimlbilling_{number:02}_{'long_' * 30}" for number in range(20)]
    tab.server.figures |= {"connections": figures.connections(*names), "gates": figures.gates(60)}
    for gate in tab.server.figures["gates"]["gates"]:
        gate |= {"run_id": "manual__" + "x" * 200, "task_id": "group_" * 30, "limits": ["200 USD per month " * 5]}
    page = tab.open()
    page.get_by_text("The same figures as a table").click()
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    wide = page.evaluate(
        """() => [...document.querySelectorAll("body *:not(.unseen, .unseen *, thead, thead *)")]
            .filter((each) => each.getBoundingClientRect().right > 400.5).map((each) => each.outerHTML.slice(0, 80))"""
    )
    assert wide == []
    columns = page.locator("#gates td").first.evaluate("(cell) => getComputedStyle(cell, '::before').content")
    assert "Waiting since" in columns


def test_links_lead_out_of_the_frame_of_airflow(tab: Any) -> None:
    page = tab.page
    page.goto(tab.server.frame_url)
    frame = page.frame_locator("iframe")
    link = frame.locator("#gates tbody a").first
    path = f"/airflow/{tab.server.figures['gates']['gates'][0]['path']}"
    with tab.context.expect_page() as opened:
        link.click(modifiers=["ControlOrMeta"])
    assert opened.value.url == tab.server.origin + path
    with tab.context.expect_page() as opened:
        link.click(button="middle")
    assert opened.value.url == tab.server.origin + path
    tab.expected = (FRAMED, "a request to https://aimlapi.com/app/billing", "net::")
    with tab.context.expect_page() as opened:
        frame.locator("[data-billing]").first.click()
    assert tab.expected[1] in tab.problems
    assert page.evaluate("routed") == [], "the window itself stayed where it was"
    link.click()
    routed, state = page.evaluate("routed[0]")
    assert routed == path
    assert state["idx"] == 0
    assert page.url == tab.server.origin + path
    assert page.locator("iframe").count() == 1, "the document around the frame was not loaded again"


def test_links_are_plain_links_outside_of_a_frame(tab: Any) -> None:
    page = tab.open()
    path = tab.server.figures["gates"]["gates"][0]["path"]
    page.locator("#gates tbody a").first.click()
    page.wait_for_url(f"{tab.server.origin}/airflow/{path}")


def test_a_state_is_said_in_words_and_by_a_sign(tab: Any) -> None:
    states = {"fine": "✓", "low": "▼", "empty": "✕", "unknown": "?", "new": "?"}
    tab.server.figures["connections"] = figures.connections(*states)
    tab.server.figures["account"] = lambda name, options: (
        figures.account(name, options)
        | {
            "state": name,
            "state_text": f"It is {name}",
        }
    )
    tab.open()
    for state, sign in states.items():
        assert tab.text(f"article:has(h3:text-is('{state}')) .state") == f"{sign} It is {state}"


def test_the_page_has_landmarks_captions_and_headings(tab: Any) -> None:
    page = tab.open()
    assert page.get_by_role("main").count() == page.get_by_role("banner").count() == 1
    regions = ["Summary", "Now", "Spending", "Waiting gates", "Held in the last 24 hours"]
    for name in [*regions, "Most expensive runs of the last 28 days"]:
        assert page.get_by_role("region", name=name, exact=True).count() == 1
        assert page.get_by_role("heading", name=name, exact=True).count() == 1
    assert page.get_by_role("article", name="aimlbilling_default").count() == 1
    for caption in ("Waiting gates", "Gates and guarded tasks", "What runs cost"):
        table = page.get_by_role("table", name=caption)
        assert table.get_by_role("columnheader").count() == table.locator("thead th").count() >= 5
        assert table.get_by_role("rowheader").count() == table.locator("tbody tr").count() > 0
    assert page.get_by_role("group", name="Days of spending and of runs").get_by_role("radio").count() == 3


@pytest.mark.parametrize("tab", [{}, DARK, PHONE, PHONE | DARK], indirect=True)
def test_axe_finds_nothing_serious(tab: Any) -> None:
    page = tab.open()
    page.locator("#legend li").first.wait_for()
    page.get_by_text("The same figures as a table").click()
    assert serious_findings(page) == []
    tab.expected = NETWORK
    tab.server.figures |= {"gates": Fault(500), "held": figures.empty()["held"]}
    tab.server.figures["account"] = lambda *at: figures.account(*at) | {"state": "unknown", "error": "It is down."}
    page.click("#refresh")
    tab.settle()
    assert serious_findings(page) == []
