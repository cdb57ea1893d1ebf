"""The pages of candidates, lineage and edits: what they say, what they link to, and what they download."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from primer_search.primitives.programs.library import get
from primer_search.primitives.programs.program_json import dna_from_json
from primer_search.search.dashboard import candidate_source
from primer_search.search.dashboard.served_run import open_runs
from primer_search.search.dashboard.server import create_app
from primer_search.search.evolution.candidate import Candidate
from primer_search.search.results.leaderboard import leaderboard
from primer_search.tests.support.command import HandmadeRun
from primer_search.workers.protocol import Evaluation


class Page(HTMLParser):
    """The text of a page and its links."""

    def __init__(self, html: str):
        super().__init__()
        self.words: list[str] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if name in ("href", "src", "data-figure") and value]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def retrained(bits: float, price: float = 1.0) -> dict[str, Any]:
    evaluation = Evaluation(
        "ok",
        loss_nats=2 * bits,
        bits_per_byte=bits,
        test_loss_nats=2 * bits,
        test_bits_per_byte=bits,
        hurdle_steps=(100,),
        hurdle_losses=(2 * bits + 0.5,),
        steps=300,
        relative_step=price,
    )
    return evaluation.to_dict()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> HandmadeRun:
    run = HandmadeRun(tmp_path_factory.mktemp("page") / "a run")
    run.child("PRIMER_EZ", 2.6)
    run.child("TRANSFORMER_PP", 2.5, mutation="Insert in <b>relu</b>: x2 = ABS(h0)", parent=1)
    run.child("PRIMER", 4.0, "stopped_at_hurdle")
    run.child("TRANSFORMER_GELU", 4.0, "non_finite")
    twin = Candidate(5, get("PRIMER_EZ", 8), 0, ("Swap in relu: x2 = ABS(h0)",), "hash 1", same_as=1)
    run.store.add_candidate(twin, {"kinds": {"Swap": {"tried": 4, "invalid": 3, "known": 1}}})
    for seed in (10, 11, 12):
        for name, number, bits in (("baseline", 0, 1.5), ("#1", 1, 1.3), ("PRIMER_EZ", None, 1.4)):
            payload = {"name": name, "seed": seed, "budget": 30.0, "evaluation": retrained(bits + seed / 1000)}
            run.store.add_event("confirmed", payload, number)
    return run


@pytest.fixture(scope="module")
def client(run: HandmadeRun) -> TestClient:
    return TestClient(create_app(open_runs([run.path])), base_url="http://127.0.0.1")


def page(client: TestClient, path: str) -> Page:
    answer = client.get(f"/runs/a-run{path}")
    assert answer.status_code == 200, answer.text
    return Page(answer.text)


def test_a_candidate_shows_the_numbers_of_the_leaderboard(client: TestClient, run: HandmadeRun) -> None:
    board = leaderboard(run.store)
    row = next(row for row in board.rows if row.id == 2)
    text = page(client, "/candidates/2").text
    assert "Candidate 2: -0.5000 nats (-0.2500 bits/byte) against the baseline, better than" in text
    for number in (f"{row.loss_nats:.4f}", f"{row.bits_per_byte:.4f}", "165,120"):
        assert number in text
    assert f"rank in the search {row.rank} after 1 training" in text
    assert "Unconfirmed" in text


def test_a_confirmed_candidate_says_so_with_its_interval(client: TestClient) -> None:
    text = page(client, "/candidates/1").text
    assert "Candidate 1: confirmed better than the baseline on the test text, by -0.2000" in text
    assert "✓ passed confirmation confirmed better than the baseline, 3 fresh trainings" in text
    assert "rank in the search 2 after 1 training; 1 of the retrained" in text
    assert "Unconfirmed" not in text


def test_the_best_of_the_search_and_of_the_retrained_are_told_apart(client: TestClient) -> None:
    overview = page(client, "").text
    assert "Confirmed: #1 is better than the baseline" in overview
    assert "On the validation text of the search, #2 was first; it was not retrained." in overview
    assert "best of the search #2, nats 2.5000" in overview
    assert "beyond its noise in the search; 1 of 1 retrained confirmed" in overview
    comparison = Page(client.get("/compare").text)
    assert "best of the search" in comparison.text and "best of the retrained" in comparison.text
    assert "#1 -0.2000" in comparison.text and "confirmed better than the baseline" in comparison.text
    assert {"/runs/a-run/candidates/1", "/runs/a-run/candidates/2"} <= set(comparison.links)


def test_a_candidate_retrained_without_a_gain_gives_the_difference_before_the_verdict(tmp_path: Path) -> None:
    run = HandmadeRun(tmp_path / "a run")
    run.child("PRIMER_EZ", 2.6)
    for name, number, bits in (("baseline", 0, 1.5), ("#1", 1, 1.502)):
        payload = {"name": name, "seed": 10, "budget": 30.0, "evaluation": retrained(bits)}
        run.store.add_event("confirmed", payload, number)
    client = TestClient(create_app(open_runs([run.path])), base_url="http://127.0.0.1")
    text = page(client, "/candidates/1").text
    assert "Candidate 1: +0.0020" in text
    assert "on the test text, in bits/byte against the baseline: too few trainings for an interval" in text
    assert "○ open confirmation too few trainings for an interval, 1 fresh training" in text


def test_the_overview_leads_to_what_a_reader_asks_of_the_best_candidate(client: TestClient) -> None:
    overview = page(client, "")
    links = [link.partition("#") for link in overview.links if "#" in link and "/candidates/" in link]
    assert [section for _, _, section in links] == ["program", "checks", "ancestry", "use"]
    assert {path for path, _, _ in links} == {"/runs/a-run/candidates/1"}, "the one that was confirmed"
    answers = client.get("/runs/a-run/candidates/1").text
    for _, _, section in links:
        assert f'id="{section}"' in answers
    assert "#1: whether to believe it" in overview.text


def test_the_checks_say_what_was_not_done(client: TestClient) -> None:
    text = page(client, "/candidates/2").text
    assert "✓ passed causality no position sees a later one: proved from the program" in text
    assert "○ open repeated trainings trained once in the search" in text
    assert "○ open confirmation not yet retrained with fresh random seeds" in text


def test_the_ancestry_gives_the_gain_of_each_edit(client: TestClient) -> None:
    text = page(client, "/candidates/2").text
    assert "#2 relu: + x2 = ABS(h0) <b>relu</b>: + x2 = ABS(h0) +0.0500" in text
    assert "#1 relu: + x2 = ABS(h0) relu: − x2 = ABS(h0) +0.2000" in text


def test_the_program_is_drawn_and_its_difference_is_chosen_by_the_address(client: TestClient) -> None:
    answer = client.get("/runs/a-run/candidates/2?against=parent&graph=everything").text
    assert "Difference from the parent" in answer
    assert "<svg" in answer
    assert "differences from the parent marked" in answer
    assert "Difference from the baseline" in page(client, "/candidates/2").text
    assert client.get("/runs/a-run/candidates/2?against=../x").status_code == 400


@pytest.mark.parametrize("number", range(6))
def test_every_candidate_has_a_page_whose_links_lead_somewhere(client: TestClient, number: int) -> None:
    links = page(client, f"/candidates/{number}").links
    for link in links:
        if link.startswith("/runs") and "block.py" not in link:
            assert client.get(link).status_code == 200, link


def test_a_twin_names_the_candidate_whose_result_it_shares(client: TestClient) -> None:
    text = page(client, "/candidates/5").text
    assert "It computes the same as #1 and shares its result" in text
    assert "2.6000" in text


@pytest.mark.parametrize("number", ["99", "-1", "x", "1.0", "9" * 30, "%2e%2e"])
def test_other_numbers_are_not_found(client: TestClient, number: str) -> None:
    assert client.get(f"/runs/a-run/candidates/{number}").status_code == 404


def test_the_curve_has_the_candidate_the_baseline_and_primer_ez(client: TestClient) -> None:
    figure = client.get("/runs/a-run/candidates/1/curve.json").json()
    assert {trace["name"] for trace in figure["data"]} == {
        "baseline (3 trainings)", "#1", "#1 retrained (3 trainings)", "PRIMER_EZ (3 trainings)",
    }  # fmt: skip
    assert all(trace["line"]["color"].startswith("var(--") for trace in figure["data"])
    shapes = {(trace["legendgroup"], trace["line"]["dash"], trace["marker"]["symbol"]) for trace in figure["data"]}
    assert len({shape[1:] for shape in shapes}) == len(shapes) == 4, "told apart without color"


def test_the_dna_is_downloaded_as_a_file_that_can_be_read_back(client: TestClient) -> None:
    answer = client.get("/runs/a-run/candidates/1/dna.json")
    assert 'filename="a-run-1.json"' in answer.headers["content-disposition"]
    assert dna_from_json(answer.text) == get("PRIMER_EZ", 8)


def test_the_drawing_is_downloaded_as_a_file_of_its_own(client: TestClient) -> None:
    answer = client.get("/runs/a-run/candidates/1/graph.svg")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert "prefers-color-scheme" in answer.text
    ElementTree.fromstring(answer.text)


def test_the_source_is_that_of_the_export_command(client: TestClient) -> None:
    answer = client.get("/runs/a-run/candidates/0/block.py")
    assert answer.status_code == 200, answer.text
    assert 'filename="block_0.py"' in answer.headers["content-disposition"]
    assert "class Block0(nnx.Module)" in answer.text
    compile(answer.text, "block_0.py", "exec")


def test_a_source_that_cannot_be_made_is_answered_with_the_reason(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidate_source, "TIMEOUT_SECONDS", 0.01)
    answer = client.get("/runs/a-run/candidates/2/block.py")
    assert answer.status_code == 503
    assert "took longer than 0.01 s" in answer.text


def test_the_tree_has_the_ancestors_of_the_best_and_what_each_edit_brought(client: TestClient) -> None:
    shown = page(client, "/lineage")
    assert {f"/runs/a-run/candidates/{number}" for number in (0, 1, 2)} <= set(shown.links)
    assert "/runs/a-run/candidates/3" not in shown.links
    assert "gain +0.0500" in shown.text
    assert "gain +0.2000" in shown.text
    assert "place 2 of the best" in shown.text
    assert "place 2 of the best" not in page(client, "/lineage?top=1").text
    ElementTree.fromstring(client.get("/runs/a-run/lineage.svg?top=2").text)
    assert client.get("/runs/a-run/lineage?top=0").status_code == 400


def test_the_kinds_of_edits_have_their_totals(client: TestClient) -> None:
    text = page(client, "/edits").text
    assert "Insert – – – 1 1 0 0 1 1 of 1 +0.1000 +0.1000 one training" in text
    assert "Swap 4 3 1 1 0 0 0 0 0 – –" in text
    figure = client.get("/runs/a-run/edits.json").json()
    assert {trace["name"] for trace in figure["data"]} >= {"improved on its parent", "stopped at a hurdle", "failed"}
    assert json.dumps(figure)


def test_foreign_text_stays_text(client: TestClient) -> None:
    for path in ("/candidates/2", "/lineage", "/edits"):
        assert "<b>relu" not in client.get(f"/runs/a-run{path}").text


def test_a_run_without_results_has_pages_that_say_so(tmp_path: Path) -> None:
    run = HandmadeRun(tmp_path / "new", ())
    client = TestClient(create_app(open_runs([run.path])), base_url="http://127.0.0.1")
    assert "the program that all others are compared with" in client.get("/runs/new/candidates/0").text
    assert "No candidate has finished" in client.get("/runs/new/lineage").text
    assert "No candidate has been proposed" in client.get("/runs/new/edits").text
