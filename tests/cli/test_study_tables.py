"""Tables of compare, ablate, stress and doctor in a real pseudo-terminal of 60, 80 and 160 columns, and in a pipe."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from primer_search.primitives.programs.library import get
from primer_search.search.doctor.leaky_programs import LEAKY_PROGRAMS
from primer_search.search.evolution.candidate import Candidate
from primer_search.search.runs.store import Store
from primer_search.tests.support.command import command
from primer_search.tests.support.formula_trainer import FormulaTrainer, structure_key, use_trainer
from primer_search.tests.support.terminal import Session, in_terminal
from primer_search.tests.support.tiny_runs import CONFIG, write_text
from primer_search.workers.config import DataConfig

pytestmark = pytest.mark.slow

COMPARE = ("compare", "PRIMER_EZ", "TRANSFORMER_PP", "--config", "smoke", "--data", "text:text", "-o", "compared")
ABLATE = ("ablate", "run", "1", "--repeats", "2")
STRESS = ("stress", "PRIMER_EZ", "--config", "stress.toml", "--layers", "1", "--length-factor", "1", "--steps", "0")
SETTINGS = "[model]\nlayers = 1\nunit = 1\nlength = 8\nvocabulary = 300\n[data]\nsource = 'text:text'\n"
VIEWS = f"""
from primer_search.cli.app import main
for words in ({COMPARE}, {ABLATE}, {STRESS}, ("doctor", "--quick")):
    print("==", words[0], flush=True)
    code = main([*words])
    assert code == 0, code
"""
QUIET = VIEWS.replace("main([*words])", 'main([*words, "--quiet"])')


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a comparison on text and an ablation on ids without text have finished, with a formula."""
    folder = tmp_path_factory.mktemp("studies")
    write_text(folder / "text")
    np.save(folder / "ids.npy", np.random.default_rng(0).integers(0, 300, 40_000))
    (folder / "stress.toml").write_text(SETTINGS)
    config = replace(CONFIG, data=DataConfig("tokens:ids.npy"))
    (folder / "run").mkdir()
    with Store.create(folder / "run", {"config": config.to_dict(), "seed": 0, "workers": 1}) as store:
        store.add_candidate(Candidate(0, get("TRANSFORMER", 1), None, (), "the baseline"))
        store.add_candidate(Candidate(1, get("PRIMER_EZ", 1), 0, ("Insert", "Insert"), "its child"))
    gains = {structure_key(get("PRIMER_EZ", unit)): 0.2 for unit in (1, 2)}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PRIMER_SEARCH_CACHE", str(folder / "cache"))
        use_trainer(FormulaTrainer(gains=gains, noise=0.002), patch)
        compared = command(*COMPARE)
        assert compared.code == 0, compared.err
        use_trainer(FormulaTrainer(gains=gains, noise=0.002, has_text=False), patch)
        ablated = command(*ABLATE)
        assert ablated.code == 0, ablated.err
    return folder


@pytest.fixture(scope="module")
def sessions(folder: Path) -> dict[int, Session]:
    """The tables in terminals of three widths: without colours, with --quiet, and as they are."""
    cache = str(folder / "cache")
    found = {
        60: in_terminal(60, "-c", VIEWS, folder=folder, PRIMER_SEARCH_CACHE=cache, NO_COLOR="1"),
        80: in_terminal(80, "-c", QUIET, folder=folder, PRIMER_SEARCH_CACHE=cache),
        160: in_terminal(160, "-c", VIEWS, folder=folder, PRIMER_SEARCH_CACHE=cache),
    }
    assert not [session.raw for session in found.values() if session.code]
    return found


@pytest.mark.parametrize("columns", [60, 80, 160])
def test_tables_of_studies_fit_the_terminal(columns: int, sessions: dict[int, Session]) -> None:
    session = sessions[columns]
    assert not [line for line in session.lines if cell_len(line) > columns], "a line is wider than the terminal"
    compared, ablated, stressed, checked = _views("\n".join(session.lines))
    assert len(re.findall(r"^(TRANSFORMER|PRIMER_EZ|TRANSFORMER_PP) +\d\.\d{4} ± \d\.\d{4} ", compared, re.M)) == 3
    assert re.search(r"^PRIMER_EZ .* -\d\.\d{4} ± \d\.\d{4} +better", compared, re.M)
    assert re.search(r"all of them .*\+0\.2\d{3} ± \d\.\d{4} +helps", ablated) or columns == 60
    assert ("no room for insertion" in ablated) == (columns == 60)
    assert re.search(r"^ +1 +8 +bfloat16 ", stressed, re.M)
    assert "unmasked softmax" in checked and "accepted" in checked
    for view in (compared, stressed):
        assert ("no room for" in view) == (columns < 160)


def test_an_ablation_on_ids_without_text_is_in_nats(folder: Path, sessions: dict[int, Session]) -> None:
    ablated = " ".join(_views("\n".join(sessions[160].lines))[1].split())
    assert "gains in nats per token of the test text" in ablated
    assert re.search(r" is 0\.2\d{3} nats below ", ablated)
    page = (folder / "run" / "ablation-1" / "ablation.html").read_text()
    assert "gain, nats per token" in page
    for text in (ablated, page):
        assert "bits/byte" not in text and "bits per byte" not in text


def test_colours_and_progress_are_left_out_where_they_are_not_wanted(
    folder: Path, sessions: dict[int, Session]
) -> None:
    progress = ("starting", "1 layer, length 8", f"{len(LEAKY_PROGRAMS)} leaky programs")
    plain, quiet, full = sessions.values()
    assert plain.escapes and not plain.colours and full.colours
    for words in progress:
        assert words in "\n".join(full.lines)
        assert words not in "\n".join(quiet.lines)
    piped = subprocess.run(
        [sys.executable, "-c", VIEWS],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
        check=True,
        env={**os.environ, "TERM": "xterm-256color", "PRIMER_SEARCH_CACHE": str(folder / "cache")},
    )
    assert "\x1b" not in piped.stdout + piped.stderr
    for words in progress[1:]:
        assert words in piped.stderr and words not in piped.stdout
    assert "epochs" in piped.stdout and "no room for" not in piped.stdout, "a pipe gets every column"
    assert "not told apart" in piped.stdout, "each row is a line"


def _views(printed: str) -> list[str]:
    return re.split(r"^== .*$", printed, flags=re.MULTILINE)[1:]
