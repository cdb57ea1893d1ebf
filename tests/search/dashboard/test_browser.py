"""The dashboard as people see it: a real search, the real command, and the system's Chromium.

Without Chromium these tests are skipped, except where PRIMER_SEARCH_CHROMIUM names one, as `.ci/run` does.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from primer_search.search.dashboard.routes import all_routes
from primer_search.search.runs.run_directory import RunDirectory
from primer_search.tests.support.tiny_runs import search, tiny_dataset

CHROMIUM = os.environ.get("PRIMER_SEARCH_CHROMIUM") or shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium")

CANDIDATES = 8
PAGES = ("", "/leaderboard", "/candidates/1", "/candidates/0", "/lineage", "/edits", "/../../compare")
ROUTES = {re.sub(r"\{candidate\}", "1", route.path) for route in all_routes()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> RunDirectory:
    """A finished search of a few real trainings."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    search(str(folder), str(dataset), CANDIDATES)
    return RunDirectory(folder)


@pytest.fixture(scope="module")
def address(run: RunDirectory) -> Iterator[str]:
    """The address of the run's dashboard, which the command serves beside a copy of the run."""
    copy = run.path.with_name("copy")
    shutil.copytree(run.path, copy)
    command = [sys.executable, "-m", "primer_search", "dashboard", str(run.path), str(copy)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    line = server.stderr.readline()
    found = re.search(r"http://\S+", line)
    assert found, line
    yield found[0].rstrip("/")
    server.send_signal(signal.SIGINT)
    said = server.communicate(timeout=20)[1]
    assert server.returncode == 0, said
    assert "Traceback" not in said


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page whose console must stay silent; its size and colors are the test's parameters."""
    options: dict[str, Any] = getattr(request, "param", {})
    context = browser.new_context(
        viewport={"width": options.get("width", 1280), "height": 900}, color_scheme=options.get("scheme", "light")
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "request",
        lambda sent: (
            said.append(f"foreign: {sent.url}")
            if "127.0.0.1" not in sent.url and not sent.url.startswith("data:")
            else None
        ),
    )
    yield page
    context.close()
    assert not said


def drawn(page: Page) -> None:
    """Wait until all figures are drawn."""
    for figure in page.locator("[data-figure]").all():
        expect(figure.locator(".main-svg").first).to_be_visible()


@pytest.mark.parametrize(
    "page", [{}, {"scheme": "dark"}, {"width": 400}, {"width": 400, "scheme": "dark"}], indirect=True, ids=str
)
def test_every_page_is_silent_accessible_and_as_wide_as_the_window(page: Page, address: str) -> None:
    faults = []
    for path in PAGES:
        answer = page.goto(f"{address}/runs/tiny{path}")
        assert answer is not None
        if answer.status == 404 and not any(
            route.startswith("/runs/{run}" + path.rpartition("/")[0]) for route in ROUTES
        ):
            continue
        assert answer.status == 200, path
        drawn(page)
        width, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width <= window, f"{path} is {width} pixels wide in a window of {window}"
        violations = Axe().run(page).response["violations"]
        faults += [
            (path, each["id"], each["nodes"][0]["html"][:120], each["nodes"][0].get("failureSummary", "")[:200])
            for each in violations
            if each["impact"] in ("serious", "critical")
        ]
    assert not faults


def test_titles_sort_and_the_address_keeps_the_view(page: Page, address: str) -> None:
    page.goto(f"{address}/runs/tiny/leaderboard")
    ids = page.locator(".board tbody tr td:nth-child(2)")
    ranked = ids.all_inner_texts()
    page.get_by_role("link", name="id", exact=True).click()
    expect(page).to_have_url(re.compile(r"sort=id$"))
    expect(page.locator("th[aria-sort=ascending]")).to_contain_text("id")
    assert ids.all_inner_texts() != ranked or ranked == sorted(ranked)
    numbers = [0 if text == "baseline" else int(text.strip("# ✓")) for text in ids.all_inner_texts()]
    assert numbers == sorted(numbers)
    page.locator("th a.sort", has_text="id").click()
    expect(page.locator("th[aria-sort=descending]")).to_contain_text("id")
    shared = page.url
    page.goto(shared)
    assert [0 if text == "baseline" else int(text.strip("# ✓")) for text in ids.all_inner_texts()] == numbers[::-1]
    page.go_back()
    expect(page).not_to_have_url(shared)


def test_filters_apply_as_they_are_typed_and_can_be_reset(page: Page, address: str) -> None:
    page.goto(f"{address}/runs/tiny/leaderboard")
    rows = page.locator(".board tbody tr")
    everything = rows.count()
    page.get_by_label("Edits contain").fill("no edit says this")
    expect(page.get_by_text("No candidate matches")).to_be_visible()
    expect(page.get_by_label("Edits contain")).to_be_focused()
    assert "text=no+edit+says+this" in page.url
    page.get_by_role("link", name="Reset").click()
    expect(rows).to_have_count(everything)
    expect(page.get_by_label("Edits contain")).to_have_value("")
    page.get_by_label("Result").select_option("stopped")
    expect(page).to_have_url(re.compile("status=stopped"))


def test_everything_is_reached_by_the_keyboard(page: Page, address: str) -> None:
    page.goto(f"{address}/runs/tiny/leaderboard", wait_until="networkidle")  # figures are drawn
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#main$"))
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null"), "the links of the head are skipped"
    seen = {page.evaluate("document.activeElement.name")}
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.add(
            page.evaluate(
                "document.activeElement.innerText || document.activeElement.name || document.activeElement.id"
            )
        )
        if page.evaluate("document.activeElement.matches('th a.sort') && document.activeElement.innerText === 'id'"):
            page.keyboard.press("Enter")
            break
    expect(page).to_have_url(re.compile("sort=id"))
    expect(page.locator("th a.sort", has_text="id")).to_be_visible()
    assert {"status", "text", "better", "Show"} <= {each.strip() for each in seen if each}


def test_a_figure_changes_its_axis_and_follows_the_color_scheme(page: Page, address: str) -> None:
    page.goto(f"{address}/runs/tiny")
    drawn(page)
    expect(page.locator("#progress-figure")).to_contain_text("minutes of search")
    page.get_by_role("link", name="against candidates").click()
    expect(page.locator("#progress-figure")).to_contain_text("trainings of candidates")
    line = page.locator("#progress-figure .scatterlayer .js-line").last
    light = line.get_attribute("style")
    page.emulate_media(color_scheme="dark")
    expect(line).not_to_have_attribute("style", light or "")


def test_new_results_appear_without_a_reload(page: Page, address: str, run: RunDirectory, dataset: Path) -> None:
    page.goto(f"{address}/runs/tiny")
    drawn(page)
    page.evaluate("window.kept = true")
    shown = page.locator("#tiles div", has_text="candidates").first.locator("dd")
    expect(shown).to_contain_text(str(CANDIDATES))
    expect(page.locator("#live")).to_have_text("not running")
    page.get_by_role("link", name="against candidates").focus()
    search(str(run.path), str(dataset), CANDIDATES + 3)
    expect(shown).to_contain_text(str(CANDIDATES + 3))
    expect(page.get_by_role("link", name="against candidates")).to_be_focused()
    assert page.evaluate("window.kept") is True
