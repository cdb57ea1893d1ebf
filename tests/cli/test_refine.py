"""The commands `analyze` and `refine` on weights that `train` made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from primer_search.models.checkpoint import load_weights, save_weights
from primer_search.search.dashboard.served_run import open_runs
from primer_search.search.dashboard.server import create_app
from primer_search.search.refinement.analysis_result import ModelAnalysis, read_analysis
from primer_search.tests.support.command import command, refused

pytestmark = pytest.mark.usefixtures("cache")


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
    "refine without a folder": (["refine", "{run}", "1"], "--output"),
    "a share that is not one": (["refine", "{run}", "1", "-o", "new", "--shares", "0.5,1.5"], "--shares '0.5,1.5'"),
    "a share that is not a number": (["refine", "{run}", "1", "-o", "new", "--shares", "half"], "--shares 'half'"),
    "a text that does not exist": (["analyze", "{run}", "1", "--data", "text:nowhere"], "nowhere"),
}


@pytest.mark.parametrize("mistake", WRONG_USAGE)
def test_wrong_usage_is_one_sentence(mistake: str, trained: Path) -> None:
    arguments, hint = WRONG_USAGE[mistake]
    assert hint in refused(*(argument.format(run=trained) for argument in arguments))


# --- refine -------------------------------------------------------------------------------------------------------


def test_a_refined_model_is_written_and_every_command_reads_it(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "refined"
    words = [
        "refine",
        run,
        "1",
        "-o",
        output,
        "--tokens",
        "1000",
        "--shares",
        "0.5,0.25",
        "--margin",
        "0",
        "--factored",
    ]
    result = command(*words, "--figures", tmp_path / "figures")
    assert result.code == 0, result.err
    assert "reporting part" in result.out
    assert f"wrote the refined weights to {output}" in result.err
    names = {path.name for path in output.iterdir()}
    assert {"factored.safetensors", "model.safetensors", "refinement.html", "refinement.json"} <= names
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"refinement.svg", "refinement.png"}
    assert command("generate", output, "--tokens", "3").code == 0
    assert command("analyze", output, "--tokens", "800").code == 0
    assert f"{output} exists" in refused(*words)
    again = command(*words, "--force", "--json", "--quiet")
    assert again.code == 0, again.err
    assert again.json == json.loads((output / "refinement.json").read_text())
    assert len(again.json["tried"]) == 2


def test_if_no_reduction_helps_nothing_is_written(run: Path, tmp_path: Path) -> None:
    weights = load_weights(run / "weights" / "1")
    blocks = {name: np.zeros_like(array) for name, array in weights.parameters["blocks"].items()}
    save_weights(tmp_path / "silent", replace(weights, parameters={**weights.parameters, "blocks": blocks}))
    result = command("refine", tmp_path / "silent", "-o", tmp_path / "refined", "--tokens", "1000")
    assert result.code == 0, result.err
    assert "no reduction helped on the choosing part" in result.out
    assert "nothing is written" in result.err
    assert not (tmp_path / "refined").exists()
