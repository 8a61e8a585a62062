"""What the billing page shows, also when figures are missing, late, many or hostile."""

from __future__ import annotations

import threading
from typing import Any

import page_figures as figures
import pytest
from page_server import Fault

pytestmark = pytest.mark.pure

BLOCKS = ("connections", "spending", "gates", "held", "runs")
FAULTS = {
    "401": (Fault(401, '{"detail": "Not authenticated"}'), "Your session has ended. Sign in to Airflow again."),
    "403": (Fault(403, '{"detail": "Forbidden"}'), "You do not have permission to see this."),
    "422": (Fault(422, '{"detail": "days must be 7, 28 or 92"}'), "days must be 7, 28 or 92"),
    "500": (Fault(500, "<h1>Internal Server Error</h1>"), "Airflow responded with an error (500)."),
    "no JSON": (Fault(200, "<h1>Sign in</h1>"), "Airflow sent a response that is not JSON. Sign in to Airflow again."),
    "other JSON": (Fault(200, '{"gates": 3}'), "The page failed to show this."),
    "closed": (Fault(0), "Airflow does not respond."),
}
NETWORK = ("Failed to load resource", "net::")


def test_every_block_shows_its_figures(tab: Any) -> None:
    page = tab.open()
    assert tab.text("#summary").startswith(
        "aimlbilling_default: 4 gates are waiting; a top-up of 12.60 USD releases 3 of them. It is not known whether "
        "it also releases 1 more."
    )
    assert "aimlbilling_research: No gate is waiting." in tab.text("#summary")
    card = tab.text("article:has-text('aimlbilling_default')")
    lasts = figures.runway("aimlbilling_default")
    for part in (
        "Low: below the account's low-balance threshold of 15.00 USD.",
        "12.60 USD 25,200,000 credits, read 2",
        f"Runway {lasts.shortest_days} to {lasts.longest_days} days {lasts.summary}",
        "Key limit 138.63 USD left of 200.00 USD per month; 61.37 USD spent",
        "Budget 200.00 USD per month 138.63 USD left",
        "Auto top-up off",
    ):
        assert part in card
    total = figures.spending("", {"days": "28", "tz": "UTC"})["total"]["text"]
    assert total in tab.text("#spending")
    assert "may still be missing" in tab.text("#spending")
    assert "enrich.gate [0] night_batch scheduled__2026-11-02T02:00:00+00:00" in tab.text("#gates")
    assert "9 hours ago rescheduled" in tab.text("#gates")
    assert "25.20 USD within the key's limit, 200.00 USD per month" in tab.text("#gates")
    assert "19 of 20 0.23 USD missing: balance 0.02 USD, needs 0.25 USD" in tab.text("#held")
    assert "14.20 USD 12.00 USD +2.20 USD 1.1833 times the estimate 4,210" in tab.text("#runs")
    assert "at least 1.02 USD charges may be missing" in tab.text("#runs")
    assert page.locator("#gates tbody a").first.get_attribute("href") == f"{tab.server.origin}/airflow/" + str(
        tab.server.figures["gates"]["gates"][0]["path"]
    )


def test_the_table_has_every_figure_of_the_chart(tab: Any) -> None:
    page = tab.open()
    page.locator("#legend li").first.wait_for()
    page.get_by_text("The same figures as a table").click()
    cells = page.locator("#spending-table tbody tr").all_inner_texts()
    expected = figures.spending("", {"days": "28", "tz": "UTC"})["rows"]
    assert [line.split("\t")[1:] for line in cells] == [[row["model"], row["cost"]["text"]] for row in expected[::-1]]
    sums = page.evaluate("Chart.getChart('chart').data.datasets.map((set) => set.data.reduce((a, b) => a + b, 0))")
    assert sum(sums) == pytest.approx(sum(float(row["cost"]["usd"]) for row in expected))
    words = page.locator("#chart").get_attribute("aria-label")
    assert f"Total {figures.spending('', {'days': '28', 'tz': 'UTC'})['total']['text']}." in words
    assert "on the model openai/gpt-4o" in words


def test_the_chart_draws_many_models_and_the_table_names_all(tab: Any) -> None:
    def many(name: str, options: Any) -> Any:
        report = figures.spending(name, options)
        models = [f"vendor/model-{number}" for number in range(12)]
        rows = [report["rows"][0] | {"model": model, "cost": figures.money("1")} for model in models]
        return report | {"rows": rows, "models": models}

    tab.server.figures["spending"] = many
    page = tab.open()
    page.locator("#legend li").first.wait_for()
    assert tab.text("#legend").endswith("vendor/model-5 other models")
    assert page.evaluate("Chart.getChart('chart').data.datasets.at(-1).data[0]") == 6
    assert page.locator("#spending-table tbody tr").count() == 12


def test_the_period_and_the_viewers_time_zone_are_asked_for(tab: Any) -> None:
    page = tab.open()
    page.get_by_label("92 days").check()
    tab.settle()
    asked = tab.server.requests
    assert "connections/aimlbilling_default/spending?days=28&tz=Europe%2FBerlin" in asked
    both = ["connections/aimlbilling_default/spending?days=92&tz=Europe%2FBerlin", "runs?days=92"]
    assert sorted(asked[-2:]) == both
    assert "last 92 days" in tab.text("#runs-title")
    page.select_option("#connection", "aimlbilling_research")
    tab.settle()
    assert asked[-1] == "connections/aimlbilling_research/spending?days=92&tz=Europe%2FBerlin"
    assert "aimlbilling_research" in tab.text("#total-of")


def test_an_installation_where_nothing_happened_yet(tab: Any) -> None:
    tab.server.figures = figures.empty()
    page = tab.open()
    assert tab.text("#summary") == "aimlbilling_default: No gate is waiting."
    assert "Empty: the account holds nothing. 0.00 USD 0 credits" in tab.text("article")
    assert "Runway How long the money lasts is unknown: nothing was spent" in tab.text("article")
    assert "Low-balance threshold not known" in tab.text("article")
    assert "Nothing was spent in this period." in tab.text("#spending")
    assert "No gate is waiting." in tab.text("#gates")
    assert "No gate or guard held a task." in tab.text("#held")
    assert "No run has reported its cost." in tab.text("#runs")
    assert not page.locator("#pick").is_visible()
    assert page.locator("table:visible").count() == 0


def test_a_user_without_connections_is_told_so(tab: Any) -> None:
    tab.server.figures |= {"connections": figures.connections(), "gates": figures.empty()["gates"]}
    tab.open()
    assert "There is no connection of the type AI/ML API billing that you may see." in tab.text("#connections")
    assert not tab.page.locator("#spending").is_visible()
    assert "caption_images" in tab.text("#held")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_block_says_what_went_wrong_and_the_others_are_there(tab: Any, fault: str) -> None:
    tab.expected = (*NETWORK, "TypeError")
    tab.server.figures["gates"], words = FAULTS[fault]
    page = tab.open()
    assert words in tab.text("#gates .problem")
    assert page.locator(".problem:visible").count() == 1
    assert "12.60 USD" in tab.text("#connections")
    assert "caption_images" in tab.text("#held")
    if fault != "other JSON":
        assert f"It is not known which gates are waiting now: {words}" in tab.text("#summary")


@pytest.mark.parametrize("block", [*BLOCKS, "account"])
def test_any_block_may_fail_for_itself_only(tab: Any, block: str) -> None:
    tab.expected = NETWORK
    tab.server.figures[block] = Fault(500)
    page = tab.open()
    failed = {"account": "article", "connections": "#connections"}.get(block, f"#{block}")
    assert page.locator(f"{failed} .problem:visible").count() == page.locator(failed).count()
    shown = {"#gates": "wait_for_budget", "#held": "caption_images", "#runs": "night_batch", "#spending": "USD"}
    for other, text in shown.items():
        if other != failed and not (block == "connections" and other == "#spending"):
            assert text in tab.text(other)


@pytest.mark.parametrize("block", ["spending", "gates", "account", "runs"])
def test_a_slow_block_keeps_no_other_waiting(tab: Any, block: str) -> None:
    tab.server.held[block] = threading.Event()
    page = tab.page
    page.goto(tab.server.url)
    place = "article" if block == "account" else f"#{block}"
    for selector, text in {"article": "12.60 USD", "#gates": "wait_for_budget", "#held": "caption_images"}.items():
        if selector != place:
            page.locator(selector, has_text=text).first.wait_for()
    assert "Reading…" in page.locator(place).first.inner_text()
    tab.server.held[block].set()
    tab.settle()
    assert "Reading…" not in page.locator("body").inner_text()


def test_the_last_figures_stay_with_their_age(tab: Any) -> None:
    tab.expected = NETWORK
    tab.page.clock.install()
    page = tab.open()
    for block in (*BLOCKS, "account"):
        tab.server.figures[block] = Fault(0)
    page.clock.fast_forward(200_000)
    page.get_by_text("The figures are from 3 minutes ago").first.wait_for()
    tab.settle()
    assert "Airflow does not respond. The figures are from 3 minutes ago" in tab.text("#gates .problem")
    assert "wait_for_budget" in tab.text("#gates")
    assert "12.60 USD 25,200,000 credits, read 3 minutes ago" in tab.text("article:has-text('aimlbilling_default')")
    assert "4 gates are waiting" in tab.text("#summary")
    assert "It is not known which gates are waiting now: Airflow does not respond." in tab.text("#summary")
    tab.server.figures = figures.usual()
    page.click("#refresh")
    tab.settle()
    assert page.locator(".problem:visible").count() == 0
    assert "not known which" not in tab.text("#summary")


def test_a_billing_api_that_is_down(tab: Any) -> None:
    down = "The billing API did not respond within 10 seconds."

    def account(name: str, options: Any) -> Any:
        known = figures.account(name, options) | {"error": down, "read_at": figures.ago(minutes=7)}
        never = {"state": "unknown", "state_text": "Unknown: the balance could not be read yet.", "balance": None}
        return known if name.endswith("default") else known | never | {"read_at": None, "runway": None}

    tab.server.figures["account"] = account
    tab.server.figures["spending"] = lambda *at: figures.spending(*at) | {"error": down, "rows": [], "total": None}
    page = tab.open()
    known, unknown = (
        tab.text(f"article:has-text('{name}')") for name in ("aimlbilling_default", "aimlbilling_research")
    )
    assert f"{down} The figures are from 7 minutes ago" in known
    assert "12.60 USD" in known
    assert "Unknown: the balance could not be read yet. not known" in unknown
    assert "The figures are from" not in unknown
    assert down in tab.text("#spending")
    assert not page.locator("#spending [data-figures]").is_visible()
    assert "wait_for_budget" in tab.text("#gates")


def test_a_key_limit_without_a_known_period(tab: Any) -> None:
    limits = {"total": ("no_reset", figures.money("3")), "odd": ("", None)}

    def account(name: str, options: Any) -> Any:
        period, spent = limits[name]
        limit = {"period": period, "limit": figures.money("5"), "spent": spent, "remaining": figures.money("2")}
        return figures.account(name, options) | {"key_limit": limit}

    tab.server.figures |= {"connections": figures.connections(*limits), "account": account}
    tab.open()
    assert "2.00 USD left of 5.00 USD in total; 3.00 USD spent" in tab.text("article:has-text('total')")
    assert "of 5.00 USD in an unknown period; an unknown amount spent" in tab.text("article:has-text('odd')")


def test_twenty_connections(tab: Any) -> None:
    names = [f"aimlbilling_{number:02}" for number in range(20)]
    tab.server.figures["connections"] = figures.connections(*names)
    page = tab.open()
    assert page.locator("article").count() == 20
    assert [name for name in names if name not in tab.text("#cards")] == []
    assert "No gate is waiting on 20 connections." in tab.text("#summary")
    asked = [request for request in tab.server.requests if "/spending" in request]
    assert len(asked) == 1, "only the spending that is shown is read"


def test_the_summary_does_not_claim_that_nothing_waits_if_that_is_not_known(tab: Any) -> None:
    lines = tab.page.locator("#summary li")
    tab.server.figures["gates"] = figures.gates(4) | {"elsewhere": 1}
    page = tab.open()
    assert lines.all_inner_texts()[1:] == [
        "aimlbilling_research: No gate is known to wait.",
        "1 gate waits on a connection that is not known, or that you may not see.",
    ]
    tab.server.figures["gates"] = figures.gates(4) | {"left_out": 37}
    page.click("#refresh")
    tab.settle()
    assert lines.all_inner_texts()[1:] == ["aimlbilling_research: No gate is known to wait."]
    tab.server.figures["connections"] = figures.connections()
    tab.server.figures["gates"] = figures.gates(4) | {"left_out": 37, "elsewhere": 3, "summaries": []}
    page.click("#refresh")
    tab.settle()
    assert lines.all_inner_texts() == [
        "At least 3 gates wait on a connection that is not known, or that you may not see."
    ]


def test_five_hundred_gates(tab: Any) -> None:
    tab.server.figures["gates"] = figures.gates(500) | {"left_out": 37}
    page = tab.open()
    assert page.locator("#gates tbody tr").count() == 20
    assert "37 more gates are not shown." in tab.text("#gates .more")
    page.get_by_role("button", name="Show all 500 gates").click()
    assert page.locator("#gates tbody tr").count() == 500
    page.click("#refresh")
    tab.settle()
    assert page.locator("#gates tbody tr").count() == 500
    page.get_by_role("button", name="Show the first 20").click()
    assert page.locator("#gates tbody tr").count() == 20


@pytest.mark.parametrize("tab", [{}, {"viewport": {"width": 400, "height": 800}}], indirect=True)
def test_hostile_texts_are_text(tab: Any) -> None:
    kept = {"usd", "credits", "state", "outcome", "day", "first_day", "last_day", "path", "tz", "model", "models"}

    def hostile(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: hostile(part, key) for key, part in value.items()}
        if isinstance(value, list):
            return value if name in kept else [hostile(part, name) for part in value]
        keep = name in kept or name.endswith("_at") or name in ("since", "deadline")
        return value if keep or not isinstance(value, str) else f"{figures.HOSTILE}{value}"

    tab.server.figures = {
        name: (lambda *at, make=made: hostile(make(*at))) if callable(made) else hostile(made)
        for name, made in figures.usual().items()
    }
    page = tab.open()
    assert page.title() == "AI/ML API billing"
    assert page.locator("img, main script").count() == 0
    for block in ("#summary", "article >> nth=0", "#spending", "#gates", "#held", "#runs"):
        assert "<img src=x onerror=" in tab.text(block)
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert not page.get_by_text("Billing page of the account").first.is_visible(), "its address is not https"


def test_a_billing_page_that_is_not_https_is_not_linked(tab: Any) -> None:
    addresses = [
        "javascript:alert(1)",
        "http://x.example/",
        "//x.example",
        "data:text/html,x",
        "",
        "https://x.example/",
    ]
    names = {f"connection_{at}": address for at, address in enumerate(addresses)}
    tab.server.figures["connections"] = figures.connections(*names)
    tab.server.figures["account"] = lambda name, options: figures.account(name, {}) | {"billing_url": names[name]}
    tab.open()
    links = tab.page.locator("[data-billing]:visible").evaluate_all("(links) => links.map((link) => link.href)")
    assert links == ["https://x.example/"]


def test_ids_with_slashes_and_quotes_are_asked_for_as_they_are(tab: Any) -> None:
    name = "a/b?c#d\"e'f%2F"
    tab.server.figures["connections"] = figures.connections(name)
    tab.open()
    assert f"connections/{'a%2Fb%3Fc%23d%22e' + chr(39) + 'f%252F'}/account" in tab.server.requests
    assert tab.text("article h3") == name


def test_a_link_to_a_task_never_leaves_airflow(tab: Any) -> None:
    gates = figures.gates(4)
    for gate, path in zip(
        gates["gates"], ["https://x.example/", "//x.example/", "/\\x.example", "javascript:alert(1)"], strict=True
    ):
        gate["path"] = path
    tab.server.figures["gates"] = gates
    tab.open()
    links = tab.page.locator("#gates tbody a").evaluate_all("(links) => links.map((link) => link.href)")
    assert len(links) == 4
    assert [link for link in links if not link.startswith(f"{tab.server.origin}/airflow/")] == []


def test_a_row_that_comes_twice_does_not_multiply(tab: Any) -> None:
    gates = figures.gates(2)
    gates["gates"].append(gates["gates"][0])
    tab.server.figures["gates"] = gates
    page = tab.open()
    for _ in range(3):
        page.click("#refresh")
        tab.settle()
    assert page.locator("#gates tbody tr").count() <= 3
