"""The Python interface starts a real search, follows it, and gives its results, blocks and errors with types."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen
import pytest

import primer_search
from primer_search import Run
from primer_search.primitives import UsageError, build_graph
from primer_search.primitives.errors import PrimerSearchError
from primer_search.search.runs.records import FinishedTrial
from primer_search.tests.support.command import command, text_source

ROOT = Path(primer_search.__file__).parent
SMOKE: dict[str, Any] = {"config": "smoke", "overrides": {"trial.hurdles": 0}}


@dataclass(frozen=True, slots=True)
class Searched:
    """A run that was followed until a candidate had trained in full, and then stopped."""

    run: Run
    followed: list[FinishedTrial]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Some real text, and a separate cache."""
    folder = tmp_path_factory.mktemp("data")
    data = text_source(folder / "text")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRIMER_SEARCH_CACHE", str(folder / "cache"))
        yield data


@pytest.fixture(scope="module")
def searched(source: str, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    path = tmp_path_factory.mktemp("runs") / "first"
    run = primer_search.start_search(budget="10m", **SMOKE, data=source, run_dir=path, track=["tensorboard"])
    assert run.running
    with pytest.raises(UsageError, match="already running"):
        run.resume()
    followed = []
    for trial in run.evaluations(follow=True):
        followed.append(trial)
        if trial.candidate_id and trial.evaluation.outcome == "ok":
            break
    primer_search.open_run(path).stop()
    assert run.wait()
    return Searched(run, followed)


def test_trainings_arrive_while_the_search_runs(searched: Searched) -> None:
    trials = list(searched.run.evaluations())
    assert trials[: len(searched.followed)] == searched.followed
    assert list(primer_search.open_run(searched.run.path).evaluations(follow=True)) == trials
    assert [trial.sequence for trial in trials] == sorted(trial.sequence for trial in trials)
    assert trials[0].candidate_id == 0
    assert not searched.run.running


def test_the_run_records_the_command_that_repeats_it(searched: Searched) -> None:
    words = searched.run.manifest["command"]
    assert words.startswith("primer-search --run-dir")
    assert "--set trial.hurdles=0 --track tensorboard" in words
    assert searched.run.config.trial.hurdles == 0


def test_the_search_was_tracked(searched: Searched) -> None:
    logged = [*searched.run.path.glob("tracking/tensorboard/candidate-*/trial-*")]
    assert len(logged) == len(list(searched.run.evaluations()))


def test_the_leaderboard_and_the_table_are_those_of_the_command(searched: Searched) -> None:
    printed = command("leaderboard", searched.run.path, "--json").json
    assert searched.run.leaderboard().to_dict()["baseline"] == printed["baseline"]
    table = searched.run.table()
    assert [row["id"] for row in table] == [row["id"] for row in printed["candidates"]]
    assert next(row for row in table if row["id"] == 0)["edits"] == ""


def test_a_run_is_a_data_frame(searched: Searched, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = searched.run.to_pandas("trainings")
    assert list(frame["trial"]) == [trial.trial_id for trial in searched.run.evaluations()]
    assert frame["at_seconds"].is_monotonic_increasing
    assert set(searched.run.to_pandas()["id"]) == {row["id"] for row in searched.run.table()}
    with pytest.raises(UsageError, match="choose candidates or trainings"):
        searched.run.table("rows")  # pyright: ignore[reportArgumentType]
    monkeypatch.setitem(sys.modules, "pandas", None)  # as if it were not installed
    with pytest.raises(UsageError, match="pip install pandas"):
        searched.run.to_pandas()


def test_a_candidate_has_its_program_and_its_graph(searched: Searched) -> None:
    best = searched.run.best()
    assert command("show", searched.run.path, "best", "--json").json["listing"] == best.listing
    assert best.canonical == build_graph(best.dna)
    graph = best.graph()
    assert [node["id"] for node in graph["nodes"]] == list(range(len(best.canonical.nodes)))
    edges = [(edge["source"], edge["target"]) for edge in graph["edges"]]
    assert edges == [(source, at) for at, node in enumerate(best.canonical.nodes) for source in node.inputs]
    assert searched.run.candidate("baseline").parent is None
    with pytest.raises(UsageError, match="has no candidate 999"):
        searched.run.candidate(999)


def test_the_code_in_the_documentation_runs(searched: Searched, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    starting, *blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 3
    compile(starting, "docs/python.md", "exec")  # the fixture has started a search
    names: dict[str, Any] = {"run": searched.run}
    for block in blocks:
        exec(block, names)
    best = searched.run.best()
    assert best.listing in capsys.readouterr().out
    assert names["y"].shape == names["z"].shape == (1, best.model.length, best.model.width)
    assert (searched.run.path / "weights" / str(best.id) / "model.safetensors").exists()
    assert best.trained_weights().training["candidate"] == best.id
    linen: Any = best.flax_module("linen", name="Mine")
    assert issubclass(linen, flax.linen.Module)


def test_a_search_is_resumed(searched: Searched) -> None:
    before = len(list(searched.run.evaluations()))
    searched.run.resume("2s")
    assert searched.run.wait(120.0)
    assert len(list(searched.run.evaluations())) >= before
    assert searched.run.leaderboard().totals.elapsed_seconds > 2.0


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"overrides": {"trial.batch": 0}}, "trial.batch = 0"),
        ({"overrides": {"batch": 3}}, "section.key=value"),
        ({"budget": "soon"}, "--budget"),
        ({"init": ["NOTHING"]}, "NOTHING"),
        ({"track": ["neptune"]}, "unknown tracker"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    wrong: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=re.escape(sentence)):
        primer_search.start_search(**{"config": "smoke", "run_dir": tmp_path / "run", **wrong})
    assert not (tmp_path / "run").exists()


def test_a_search_that_fails_at_its_start_raises_its_sentence(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "short.txt").write_text("too short\n", encoding="utf-8")
    with pytest.raises(PrimerSearchError) as caught:
        primer_search.start_search(**SMOKE, data=f"text:{tmp_path / 'text'}", run_dir=tmp_path / "run")
    assert str(tmp_path / "text") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_program_as_dna_is_an_initial_program(source: str, tmp_path: Path) -> None:
    dna = primer_search.library.get("PRIMER_EZ", 2, 8)
    run = primer_search.start_search(budget="1s", **SMOKE, data=source, run_dir=tmp_path / "run", init=[dna])
    run.wait()
    assert run.candidate(1).dna == dna
