"""The plugin: what it declares on which Airflow, and what it costs processes that never show the page."""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

import pytest
from support import AIRFLOW, AIRFLOW_3, modules_loaded_by

from airflow_provider_aimlbilling.plugins import billing_page

PACKAGE = "airflow_provider_aimlbilling"
MODULE = f"{PACKAGE}.plugins.billing_page"
SHOWS_PAGE = AIRFLOW_3 and not AIRFLOW.startswith("3.0")


@pytest.fixture
def reload(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Load the plugin again with a value of its setting."""

    def with_setting(value: str) -> Any:
        monkeypatch.setenv("AIRFLOW__AIMLBILLING__BILLING_PAGE", value)
        spec = importlib.util.find_spec(MODULE)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.BillingPagePlugin

    return with_setting


def test_the_entry_point_is_a_valid_plugin() -> None:
    (point,) = [point for point in entry_points(group="airflow.plugins") if point.module.startswith(PACKAGE)]
    plugin = point.load()
    assert plugin is billing_page.BillingPagePlugin
    plugin.validate()
    assert plugin().name == "aimlbilling"


def test_the_page_is_declared_from_airflow_3_1_on() -> None:
    plugin = billing_page.BillingPagePlugin
    assert [app["url_prefix"] for app in plugin.fastapi_apps] == (["/aimlbilling"] if SHOWS_PAGE else [])
    assert len(plugin.external_views) == len(plugin.fastapi_apps)


@pytest.mark.parametrize("value", ["False", "0", "off"])
def test_the_setting_turns_the_page_off(reload: Any, value: str) -> None:
    assert reload("True").fastapi_apps == [] or SHOWS_PAGE
    plugin = reload("False" if value == "off" else value)
    assert (plugin.fastapi_apps, plugin.external_views) == ([], [])


@pytest.mark.skipif(not SHOWS_PAGE, reason="the setting is not read before Airflow 3.1")
def test_a_setting_that_is_neither_on_nor_off_is_refused(reload: Any) -> None:
    with pytest.raises(Exception, match="billing_page"):
        reload("maybe")


def test_the_address_of_the_page_is_below_the_path_of_airflow() -> None:
    """The UI resolves it against its own base, which is the path of [api] base_url."""
    for view in billing_page.BillingPagePlugin.external_views:
        assert view["href"] == "aimlbilling/page"
        assert (view["destination"], view["category"]) == ("nav", "browse")


def test_importing_the_plugin_loads_nothing_else() -> None:
    base = f"import airflow.plugins_manager; from {PACKAGE}.compat import AirflowPlugin, conf"
    (loaded,) = modules_loaded_by(f"import {MODULE}", base=base)
    assert loaded == {f"{PACKAGE}.plugins", MODULE}


def test_loading_the_plugin_of_a_running_airflow_adds_neither_fastapi_nor_requests() -> None:
    (loaded,) = modules_loaded_by(f"import {MODULE}", base="import airflow.plugins_manager")
    assert loaded - {PACKAGE} == {f"{PACKAGE}.compat", f"{PACKAGE}.plugins", MODULE}


def test_first_requests_at_the_same_time_build_one_application(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[object] = []
    served: list[object] = []
    main = threading.get_ident()

    def build() -> Any:
        assert threading.get_ident() != main, "building takes seconds, which would block the API server"

        async def app(scope: Any, receive: Any, send: Any) -> None:
            served.append(app)

        built.append(app)
        return app

    page = type("page", (), {"build_app": staticmethod(build)})
    monkeypatch.setitem(__import__("sys").modules, f"{PACKAGE}.plugins.page.app", page)
    lazy = billing_page.BillingPageApp()

    async def serve() -> None:
        await asyncio.gather(*(lazy({}, None, None) for _ in range(20)))  # type: ignore[arg-type]

    asyncio.run(serve())
    assert len(built) == 1
    assert served == built * 20
