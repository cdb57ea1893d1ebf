"""The report: one page that needs nothing else and says what the leaderboard says; foreign text stays text in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from primer_search.primitives.errors import UsageError
from primer_search.search.reports.figures.run_figure import progress_figure
from primer_search.search.reports.figures.training_points import Point
from primer_search.search.reports.pages.run_page import render_report, write_report
from primer_search.search.reports.phrases import headline
from primer_search.search.results.leaderboard import leaderboard
from primer_search.tests.support.command import HandmadeRun


class Page(HTMLParser):
    """The page's text outside scripts, its links and its rows."""

    def __init__(self, html: str):
        super().__init__()
        self.inside: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.targets: set[str] = set()
        self.scripts = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.inside.append(tag)
        self.scripts += tag == "script"
        self.addresses += [value for name, value in attrs if name in ("href", "src") and value]
        if named.get("id"):
            self.targets.add(str(named["id"]))

    def handle_endtag(self, tag: str) -> None:
        if tag in self.inside:
            while self.inside.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.inside):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> HandmadeRun:
    run = HandmadeRun(tmp_path_factory.mktemp("run"))
    run.child("PRIMER_EZ", 2.6)
    run.child("TRANSFORMER_PP", 2.95, mutation="Insert in <b>relu</b>: x2 = ABS(h0)")
    run.child("PRIMER", 4.0, "stopped_at_hurdle")
    run.child("TRANSFORMER_GELU", 4.0, "non_finite")
    return run


@pytest.fixture(scope="module")
def html(run: HandmadeRun) -> str:
    return render_report(run.store)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_report_says_what_the_leaderboard_says(run: HandmadeRun, page: Page) -> None:
    board = leaderboard(run.store)
    assert headline(board) in page.text
    assert "Unconfirmed" in page.text
    for row in board.rows:
        if row.loss_nats is not None:
            assert f"{row.loss_nats:.4f}" in page.text
    assert "inside" in page.text


def test_the_report_shows_programs_and_their_difference_to_the_baseline(page: Page) -> None:
    assert "DCONV_3X1(x2)" in page.text
    assert {"candidate-0", "candidate-1", "candidate-2"} <= page.targets
    assert "candidate-3" not in page.targets, "what was stopped has no program here"


def test_the_report_shows_settings_and_where_the_time_went(page: Page) -> None:
    for words in (
        "trial.budget_seconds 30.0",
        "workers.accel cpu",
        "training",
        "60.0 %",
        "12 mutations: 4 new programs",
    ):
        assert words in page.text


def test_every_link_leads_somewhere_in_the_page_and_none_to_the_network(page: Page) -> None:
    assert page.addresses
    for address in page.addresses:
        assert address.removeprefix("#") in page.targets, address


def test_foreign_text_stays_text(html: str, page: Page) -> None:
    assert "text:<script>alert(1)</script>" in page.text
    assert "<script>alert" not in html
    assert "<b>relu</b>" in page.text
    assert "<b>relu</b>" not in html


def test_the_report_of_a_run_that_found_nothing_says_so(tmp_path: Path) -> None:
    text = Page(render_report(HandmadeRun(tmp_path, ()).store)).text
    assert "The baseline has not finished a full trial" in text
    assert "Best so far" not in text


def test_a_report_that_cannot_be_written_leaves_nothing(run: HandmadeRun, tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.mkdir()
    with pytest.raises(UsageError, match="cannot write the report"):
        write_report(run.store, target)
    assert list(tmp_path.iterdir()) == [target]
    write_report(run.store, tmp_path / "other.html")
    assert {file.name for file in tmp_path.iterdir()} == {"report.html", "other.html"}


def test_the_figure_steps_down_with_the_best_and_starts_at_the_baselines_mean(run: HandmadeRun) -> None:
    baseline = leaderboard(run.store).baseline
    points = [
        Point(1, 0, 3.0, None),
        Point(2, 1, 2.8, None),
        Point(3, 2, 2.9, None),
        Point(4, 3, 2.6, None),
        Point(5, 4, 2.0, 1),
    ]
    figure = progress_figure(points, baseline)
    best = re.search(r'"name":"best so far".*?"x":\[(.*?)\],"y":\[(.*?)\]', figure)
    assert best is not None
    assert [float(x) for x in best[1].split(",")] == [1, 2, 4, 5]
    assert [float(y) for y in best[2].split(",")] == [3.0, 2.8, 2.6, 2.6]


def test_a_figure_of_nothing_is_nothing(run: HandmadeRun) -> None:
    assert progress_figure([], leaderboard(run.store).baseline) == ""
