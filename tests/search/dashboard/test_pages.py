"""Overview, leaderboard and comparison: what they show, and that the address is the view."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from primer_search.search.dashboard.served_run import ServedRun, open_runs
from primer_search.search.dashboard.server import create_app
from primer_search.search.reports.phrases import headline
from primer_search.search.reports.progress.search_progress import OUTCOME_WORDS
from primer_search.search.results.digest import run_digest
from primer_search.search.results.leaderboard import leaderboard
from primer_search.search.runs.store import Store
from primer_search.tests.support.written_runs import Run, full
from primer_search.workers.protocol import Evaluation

ATTACK = "<script>alert(1)</script>"


def write_run(folder: Path, candidates: int = 60, shift: float = 0.0) -> Run:
    """Write a run: a third stopped, a tenth failed, the rest trained in full."""
    folder.mkdir(parents=True)
    run = Run(folder, workers=1, config={"search": {"strategy": "evolution"}}, seed=3, budget_seconds=3600.0)
    run.propose(0, None)
    for repeat in range(3):
        run.train(0, full(4.0 + 0.002 * repeat, step_ms=20.0, peak_memory_bytes=2**28))
    for number in range(1, candidates):
        run.propose(number, number // 2, ATTACK if number == 7 else f"Insert in relu: x{number} = SQUARE(h0)")
        if number % 10 == 9:
            run.train(number, Evaluation("non_finite", "the loss became infinite", steps=10))
        elif number % 3 == 2:
            run.train(number, Evaluation("stopped_at_hurdle", hurdle_losses=(4.9,), hurdle_steps=(100,), steps=100))
        else:
            loss = 4.1 - 0.004 * number - shift
            run.train(
                number, full(loss, step_ms=10.0 + number % 17, hurdle_losses=(4.8,), peak_memory_bytes=2**28 + number)
            )
    return run


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    for name, shift in (("first", 0.0), ("second", 0.1)):
        write_run(folder / name, shift=shift).store.close()
    return [folder / "first", folder / "second"]


@pytest.fixture
def client(folders: list[Path]) -> Iterator[TestClient]:
    with TestClient(create_app(open_runs(folders)), base_url="http://127.0.0.1", follow_redirects=False) as client:
        yield client


def text_of(client: TestClient, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200, answer.text
    return unescape(answer.text)


def ids_of(page: str) -> list[int]:
    """The candidates in the table of a leaderboard, from the top."""
    table = page.partition('<table class="board">')[2].partition("</table>")[0]
    return [int(number) for number in re.findall(r"/candidates/(\d+)", table)]


def test_the_overview_says_what_the_leaderboard_command_says(client: TestClient, folders: list[Path]) -> None:
    page = text_of(client, "/runs/first")
    with Store.open(folders[0], read_only=True) as store:
        board = leaderboard(store)
    assert headline(board) in page
    assert "Unconfirmed" in page
    assert f"± {board.baseline.noise_nats:.4f} noise" in page
    for outcome, count in board.totals.outcomes.items():
        words = OUTCOME_WORDS.get(outcome, outcome.replace("_", " "))
        assert re.search(rf"{words}</th><td class=\"n\">{count}<", page), outcome


@pytest.mark.parametrize("axis", ["time", "candidates"])
def test_the_figure_of_progress_falls_to_the_best_loss(client: TestClient, folders: list[Path], axis: str) -> None:
    spec = client.get(f"/runs/first/progress.json?x={axis}").json()
    best = next(trace for trace in spec["data"] if trace["name"] == "best so far")
    with Store.open(folders[0], read_only=True) as store:
        lowest = min(row.loss_nats for row in leaderboard(store).rows if row.loss_nats is not None)
    assert best["y"] == sorted(best["y"], reverse=True)
    assert best["y"][-1] == pytest.approx(lowest)
    assert any(shape["type"] == "rect" for shape in spec["layout"]["shapes"]), "the noise of the baseline is a band"


def test_the_leaderboard_has_the_rows_of_the_leaderboard_command(client: TestClient, folders: list[Path]) -> None:
    with Store.open(folders[0], read_only=True) as store:
        expected = [row.id for row in leaderboard(store).rows]
    found = ids_of(text_of(client, "/runs/first/leaderboard")) + ids_of(
        text_of(client, "/runs/first/leaderboard?page=2")
    )
    assert found == expected


@pytest.mark.parametrize("sort", ["id", "loss", "bits", "difference", "step", "speed", "parameters", "memory"])
def test_rows_are_sorted_as_the_address_says(client: TestClient, folders: list[Path], sort: str) -> None:
    with Store.open(folders[0], read_only=True) as store:
        rows = {row.id: row for row in leaderboard(store).rows}
    values = {
        "id": lambda row: row.id,
        "loss": lambda row: row.loss_nats,
        "bits": lambda row: row.bits_per_byte,
        "difference": lambda row: row.ranking_nats,
        "step": lambda row: row.step_ms,
        "speed": lambda row: -row.speed if row.speed else None,
        "parameters": lambda row: row.parameters,
        "memory": lambda row: row.id if row.id and row.loss_nats else None,
    }[sort]
    for order in ("usual", "reverse"):
        shown = ids_of(text_of(client, f"/runs/first/leaderboard?status=full&sort={sort}&order={order}"))
        found = [value for value in (values(rows[number]) for number in shown) if value is not None]
        assert len(found) > 20
        assert found == sorted(found, reverse=order == "reverse")


def test_rows_are_filtered_as_the_address_says(client: TestClient) -> None:
    stopped = ids_of(text_of(client, "/runs/first/leaderboard?status=stopped"))
    assert stopped
    assert all(number % 3 == 2 for number in stopped)
    failed = ids_of(text_of(client, "/runs/first/leaderboard?status=failed"))
    assert all(number % 10 == 9 for number in failed)
    assert ids_of(text_of(client, "/runs/first/leaderboard?text=X33+%3D+square")) == [33]
    quick = ids_of(text_of(client, "/runs/first/leaderboard?step_ms=12&status=full"))
    assert quick
    assert all(number % 17 <= 2 for number in quick)
    assert ids_of(text_of(client, "/runs/first/leaderboard?parameters=999")) == []
    assert "No candidate matches" in text_of(client, "/runs/first/leaderboard?text=nothing")


def test_better_candidates_are_those_beyond_the_noise(client: TestClient, folders: list[Path]) -> None:
    with Store.open(folders[0], read_only=True) as store:
        rows = leaderboard(store).rows
    expected = [
        row.id for row in rows if row.rank and row.id and row.inside_noise is False and (row.delta_nats or 0) < 0
    ]
    assert ids_of(text_of(client, "/runs/first/leaderboard?better=1")) == expected != []


def test_a_wildcard_or_a_quote_in_a_filter_is_only_text(client: TestClient) -> None:
    for text in ("%25", "_", "'", "%22%20OR%201=1--", "%00"):
        assert ids_of(text_of(client, f"/runs/first/leaderboard?text={text}")) == []


def test_edits_and_filters_are_escaped(client: TestClient) -> None:
    page = client.get("/runs/first/leaderboard?sort=id").text
    assert "&lt;script&gt;alert(1)" in page
    assert ATTACK not in page
    assert ATTACK not in client.get(f"/runs/first/leaderboard?text={ATTACK}").text
    assert ATTACK not in client.get(f"/runs/{ATTACK}").text


@pytest.mark.parametrize(
    "query",
    ["sort=nothing", "page=" + "9" * 5000, "sort=id;DROP", "cost=money", "order=up", "status=%27", "page=0",
     "page=-1", "page=x", "page=1e9", "better=yes", "parameters=many", "step_ms=fast", "step_ms=nan", "step_ms=-1",
     "text=" + "a" * 101],
)  # fmt: skip
def test_an_address_that_cannot_be_read_is_answered_with_a_sentence(client: TestClient, query: str) -> None:
    answer = client.get(f"/runs/first/leaderboard?{query}")
    assert answer.status_code == 400
    name = query.partition("=")[0]
    assert re.search(rf"<p>{name}\b.* in the address", answer.text, re.IGNORECASE), answer.text


def test_the_pareto_front_has_no_candidate_that_is_beaten(client: TestClient, folders: list[Path]) -> None:
    front = next(
        t for t in client.get("/runs/first/front.json?cost=step").json()["data"] if t["name"] == "Pareto front"
    )
    with Store.open(folders[0], read_only=True) as store:
        rows = [row for row in leaderboard(store).rows if row.rank is not None]
    expected = {
        row.id
        for row in rows
        if not any(
            other.step_ms <= row.step_ms and other.loss_nats <= row.loss_nats and other is not row  # type: ignore[operator]
            for other in rows
        )
    }
    assert set(front["customdata"]) == expected
    assert "peak memory" in text_of(client, "/runs/first/leaderboard")


def test_the_comparison_has_a_row_and_a_curve_for_each_run(client: TestClient) -> None:
    page = text_of(client, "/compare")
    assert page.count("evolution</td>") == 2
    assert "All runs have the same text" in page
    for loss in ("difference", "loss"):
        spec = client.get(f"/compare/progress.json?y={loss}").json()
        assert [trace["name"] for trace in spec["data"]] == ["first", "second"]
        assert len({trace["line"]["dash"] for trace in spec["data"]}) == 2, "curves differ without color"


def test_runs_under_other_conditions_are_not_compared_silently(tmp_path: Path, folders: list[Path]) -> None:
    run = Run(_folder(tmp_path / "other"), workers=1, dataset_hash="abc", config={"trial": {"budget_steps": 7}})
    run.store.close()
    client = TestClient(create_app(open_runs([folders[0], tmp_path / "other"])), base_url="http://127.0.0.1")
    page = text_of(client, "/compare")
    assert "Not the same conditions" in page
    assert "text (?, abc)" in page
    assert "trial.budget_steps (None, 7)" in page


def test_pages_of_a_run_without_results_say_so(tmp_path: Path) -> None:
    Run(_folder(tmp_path / "empty"), workers=1).store.close()
    client = TestClient(create_app(open_runs([tmp_path / "empty"])), base_url="http://127.0.0.1")
    for path in ("", "/leaderboard", "/progress.json", "/front.json", "/state.json"):
        assert client.get(f"/runs/empty{path}").status_code == 200, path
    assert client.get("/compare").status_code == 200
    assert client.get("/compare/progress.json").json()["data"] == []


def test_pages_follow_a_run_that_is_being_written(tmp_path: Path) -> None:
    run = write_run(tmp_path / "live", candidates=5)
    client = TestClient(create_app(open_runs([tmp_path / "live"])), base_url="http://127.0.0.1")
    before = client.get("/runs/live/state.json").json()
    assert before["running"]
    assert 5 not in ids_of(text_of(client, "/runs/live/leaderboard"))
    run.propose(5, 4, "Delete in relu: x2 = ABS(h0)")
    run.train(5, full(3.0))
    assert client.get("/runs/live/state.json").json()["last"] > before["last"]
    assert ids_of(text_of(client, "/runs/live/leaderboard"))[0] == 5
    run.store.close()


def test_a_long_run_is_shown_while_it_is_still_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "long").store.close()
    monkeypatch.setattr(run_digest, "_SLICE", 20)
    monkeypatch.setattr("primer_search.search.dashboard.served_run._READ_SECONDS", 0.0)
    monkeypatch.setattr(ServedRun, "_read_rest", lambda self, digest: None)
    client = TestClient(create_app(open_runs([tmp_path / "long"])), base_url="http://127.0.0.1")
    for path in ("", "/leaderboard", "/lineage", "/edits", "/candidates/58"):
        assert "Reading the run: 0% so far" in text_of(client, f"/runs/long{path}")
    assert "no result yet" in text_of(client, "/runs/long/candidates/58")
    monkeypatch.setattr("primer_search.search.dashboard.served_run._READ_SECONDS", 0.003)
    page = ""
    for _ in range(20):
        page = text_of(client, "/runs/long/leaderboard")
    assert "Reading the run" not in page
    assert "59 candidates" in page or "60 candidates" in page


def test_gains_and_differences_of_a_priced_run_are_both_those_that_rank(tmp_path: Path) -> None:
    counts = {"step_flops": 1e6, "step_bytes": 1e5, "step_transcendentals": 1e4}
    (tmp_path / "priced").mkdir()
    config = {"search": {"strategy": "guided"}, "trial": {"price": True, "unit": "steps", "budget_steps": 1000}}
    run = Run(tmp_path / "priced", workers=1, config=config)
    run.propose(0, None)
    for loss in (4.0, 4.02, 3.98):
        run.train(0, full(loss, relative_step=1.0, hurdle_losses=(4.5,), **counts))
    for number, loss, price in ((1, 3.7, 1.2), (2, 3.6, 1.5)):
        run.propose(number, number - 1, f"Insert in relu: x{number} = ABS(h0)")
        costs = {name: price * value for name, value in counts.items()}
        run.train(number, full(loss, relative_step=price, hurdle_losses=(4.2,), **costs))
    rows = {row.id: row for row in leaderboard(run.store).rows}
    run.store.close()
    shown = [f"{rows[number].ranking_delta_bits_per_byte:+.4f}" for number in (1, 2)]
    assert shown[1] != f"{rows[2].delta_bits_per_byte:+.4f}"
    client = TestClient(create_app(open_runs([tmp_path / "priced"])), base_url="http://127.0.0.1")
    for path in ("/lineage", "/candidates/2"):
        page = text_of(client, f"/runs/priced{path}")
        assert "after equal steps or after equal time, whichever is worse" in page
        for difference in shown:
            assert f'<td class="n">{difference}</td>' in page
    assert "at equal time)" in text_of(client, "/runs/priced")


def test_a_run_that_vanishes_is_answered_with_a_sentence(tmp_path: Path) -> None:
    write_run(tmp_path / "gone", candidates=3).store.close()
    client = TestClient(create_app(open_runs([tmp_path / "gone"])), base_url="http://127.0.0.1")
    (tmp_path / "gone").rename(tmp_path / "elsewhere")
    answer = client.get("/runs/gone")
    assert answer.status_code == 400
    assert "no such directory" in answer.text


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path
