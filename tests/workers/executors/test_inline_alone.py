"""An inline search works on machines without Ray, TFDS and the libraries for pages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ABSENT = ("ray", "tensorflow_datasets", "tensorflow", "array_record", "plotly", "jinja2", "safetensors", "transformers")
"""Dependencies and extras that cannot be imported here."""

WITHOUT = f"""
import sys
sys.modules.update(dict.fromkeys({ABSENT!r}))  # None there: the import raises ModuleNotFoundError
from primer_search.cli.app import main
sys.exit(main(sys.argv[1:]))
"""


def without(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, *arguments]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    ended = without("--config", "smoke", "--executor", "inline", "--budget", "8s", "--run-dir", str(folder))
    assert ended.returncode == 0, ended.stderr
    assert "not written: " in ended.stdout
    assert "jinja2" in ended.stdout
    return folder


def test_a_search_ends_with_its_leaderboard_with_only_jax_and_flax_installed(run: Path) -> None:
    board = without("leaderboard", str(run), "--json")
    assert board.returncode == 0, board.stderr
    facts = json.loads(board.stdout)  # a busy machine may train no candidate; the comparison below always trains
    assert facts["candidates"] or not facts["totals"]["trials"]
    assert facts["about"]["config"]["workers"]["executor"] == "inline"
    assert facts["about"]["versions"]["jax"]
    assert "--budget 8s" in facts["about"]["command"]


def test_a_page_that_cannot_be_made_is_reported_in_one_sentence(run: Path) -> None:
    ended = without("report", str(run))
    assert ended.returncode == 2
    assert ended.stderr == "primer-search: the package jinja2 is not installed: pip install jinja2\n"


def test_without_ray_the_remedy_is_named_before_anything_starts(tmp_path: Path) -> None:
    ended = without("--config", "laptop", "--budget", "12s", "--run-dir", str(tmp_path / "run"))
    assert ended.returncode == 2
    assert "--executor inline" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_comparison_is_printed_and_saved_without_its_page(tmp_path: Path) -> None:
    tiny = ["--set", "trial.budget_steps=7", "--set", "model.layers=1", "--set", "trial.evaluation_batches=1"]
    words = ["compare", "PRIMER_EZ", "--config", "smoke", *tiny, "--repeats", "1", "--executor", "inline"]
    ended = without(*words, "-o", str(tmp_path / "out"), "--json")
    assert ended.returncode == 0, ended.stderr
    printed = json.loads(ended.stdout)
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == printed
    assert {row["name"] for row in printed["rows"]} == {"TRANSFORMER", "PRIMER_EZ"}
    assert printed["command"].endswith("--json")
    assert {"python", "jax", "flax"} <= set(printed["versions"])
    assert all(row["tokens_per_second"] > 0 and row["model_tflops"] > 0 for row in printed["rows"])
    again = without(*words, "-o", str(tmp_path / "out"))
    assert again.returncode == 0, again.stderr
    assert "PRIMER_EZ" in again.stdout
    assert "page  not written: " in again.stdout
