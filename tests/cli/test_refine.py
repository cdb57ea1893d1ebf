"""The commands `analyze` and `refine` on weights that `train` made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from primer_search.search.dashboard.served_run import open_runs
from primer_search.search.dashboard.server import create_app
from primer_search.search.refinement.analysis_result import ModelAnalysis, read_analysis
from primer_search.tests.support.command import command, refused
from primer_search.tests.support.tiny_weights import tiny_run


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run with trained weights of candidate 1."""
    run = tiny_run(tmp_path_factory.mktemp("trained"))
    assert command("train", run, "1").code == 0
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of that run that a test may change."""
    return shutil.copytree(trained, tmp_path / "run")


def test_an_analysis_is_printed_stored_and_shown_on_the_page_of_the_candidate(run: Path, tmp_path: Path) -> None:
    result = command("analyze", run, "1", "--tokens", "800", "--figures", tmp_path / "figures")
    assert result.code == 0, result.err
    folder = run / "weights" / "1"
    assert "linearity" in result.out
    assert str(folder / "analysis.html") in result.out
    analysis = read_analysis(folder)
    assert analysis is not None
    (layer,) = analysis.layers
    assert layer.linearity is not None
    assert f"{layer.linearity:.4f}" in result.out
    assert layer.linearity > 0.9
    assert layer.removed.mean is not None
    assert analysis.scored_tokens == 400
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"analysis.svg", "analysis.png"}
    client = TestClient(create_app(open_runs([run])), base_url="http://127.0.0.1")
    page = client.get("/runs/run/candidates/1")
    assert f"{layer.linearity:.4f}" in page.text
    assert "/runs/run/candidates/1/analysis.json" in page.text
    figure = client.get("/runs/run/candidates/1/analysis.json").json()
    assert figure["data"][0]["y"] == [layer.linearity]
    assert "Layers of its trained weights" not in client.get("/runs/run/candidates/0").text
    assert client.get("/runs/run/candidates/0/analysis.json").status_code == 404


def test_an_analysis_of_a_folder_as_json_is_that_of_the_candidate(run: Path) -> None:
    one = command("analyze", run, "1", "--tokens", "2000", "--json", "--quiet")
    other = command("analyze", run / "weights" / "1", "--tokens", "2000", "--json")
    assert one.code == other.code == 0, other.err
    assert one.json == other.json
    assert one.json == json.loads((run / "weights" / "1" / "analysis.json").read_text())
    assert ModelAnalysis.from_dict(one.json).to_dict() == one.json
    assert one.err == ""


WRONG_USAGE = {
    "analyze without a run": (["analyze", "no/such/run", "1"], "no/such/run"),
    "analyze a run without a candidate": (["analyze", "{run}"], "`best`"),
    "too few tokens": (["analyze", "{run}", "1", "--tokens", "50"], "--tokens is 50: give at least 176"),
    "a text that does not exist": (["analyze", "{run}", "1", "--data", "text:nowhere"], "nowhere"),
}


@pytest.mark.parametrize("mistake", WRONG_USAGE)
def test_wrong_usage_is_one_sentence(mistake: str, trained: Path) -> None:
    arguments, hint = WRONG_USAGE[mistake]
    assert hint in refused(*(argument.format(run=trained) for argument in arguments))
