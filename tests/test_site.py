"""The documentation builds as a site, and the commands it shows run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from primer_search.plugins.registry import loaded_plugins, unload
from primer_search.plugins.sources import find_source, remember
from primer_search.primitives.programs.library import get
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.tests.support.command import HandmadeRun, Result, command
from primer_search.tests.support.tiny_runs import own_tokenizer, write_text
from primer_search.tests.test_readme import PAGES, ROOT, commands_in

READING = {"leaderboard", "show", "report", "check", "export", "primitives"}
"""Commands that end within seconds on any run; they run as the pages show them."""
LONG = {
    *("ablate", "analyze", "clean", "compare", "confirm", "dashboard", "data", "doctor"),
    *("generate", "refine", "repair", "resume", "simulate", "stress", "track", "train"),
}
"""Commands that take longer, or serve until they are stopped; their own tests run them, and test_readme.py checks that
their options exist."""


def shown_commands() -> Iterator[str]:
    """All complete commands of the pages: not forms with [ and |, and not names of commands without their arguments."""
    pages = [page for page in PAGES if page.name != "commands.md"]
    found = {line for page in pages for line in commands_in(page) if not re.search(r"[\[|]", line)}
    return iter(sorted(line for line in found if len(line.split()) > 2))


def verb(line: str) -> str:
    """The subcommand of a command line; empty for a search."""
    word = shlex.split(line)[1]
    return "" if word.startswith("-") else word


def only_programs(path: str, names: list[str]) -> list[str]:
    """What is not a program among the names in a folder."""
    return [name for name in names if not name.endswith(".json")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which the names of the pages exist: a run with one child, a text, a tokenizer, DNA, a plugin."""
    folder = tmp_path_factory.mktemp("pages")
    HandmadeRun(folder / "runs" / "a").child("PRIMER_EZ", 2.5)
    own_tokenizer(folder / "tokenizer.json", write_text(folder / "corpus"))
    (folder / "DNA.json").write_text(dna_to_json(get("PRIMER_EZ", 8)), encoding="utf-8")
    np.save(folder / "ids.npy", np.arange(4000) % 500)
    shutil.copy(ROOT / "examples" / "plugins" / "gated_unit.py", folder)
    shutil.copytree(ROOT / "benchmarks" / "results", folder / "benchmarks" / "results", ignore=only_programs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRIMER_SEARCH_CACHE", str(folder / "cache"))
        remember(find_source(str(folder / "gated_unit.py")))  # its own test checks it
        yield folder


def run_as_shown(line: str, folder: Path, *more: str) -> Result:
    """Run a command of a page; the names in the folder replace those of the page, and a text replaces lm1b."""
    run = str(folder / "runs" / "a")
    line = line.partition(" > ")[0]
    (folder / "block.py").unlink(missing_ok=True)
    line = line.replace("--data lm1b", "--data text:corpus")
    words = [re.sub(r"^(RUN2?|runs/[\w.]+)(?=$|:)", run, word) for word in shlex.split(line)[1:]]
    words = [re.sub(r"(?<=/a:)\d+$", "1", word) for word in words]
    words = [
        "1" if word.isdigit() and before == run else word for before, word in zip(["", *words], words, strict=False)
    ]
    words = [word for before, word in zip(["", *words], words, strict=False) if "--address" not in (before, word)]
    here = os.getcwd()
    os.chdir(folder)
    try:
        return command(*words, *more)
    finally:
        os.chdir(here)
        for plugin in loaded_plugins():
            unload(plugin.source.name)


@pytest.mark.parametrize("line", [line for line in shown_commands() if verb(line) in READING])
def test_a_command_that_reads_runs_as_shown(line: str, folder: Path) -> None:
    result = run_as_shown(line, folder)
    assert result.code == 0, result.err
    assert result.out or "wrote" in result.err


@pytest.mark.parametrize("line", [line for line in shown_commands() if not verb(line)])
def test_a_search_is_planned_as_shown(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if accelerator := re.search(r"--accel (gpu|tpu)|--config (gpu)", line):
        monkeypatch.setenv("PRIMER_SEARCH_FAKE_DEVICES", f"{accelerator[1] or accelerator[2]}:8")
    result = run_as_shown(line, folder, *(() if "--dry-run" in line else ("--dry-run",)))
    assert result.code == 0, result.err
    assert "budget" in result.out


def test_every_command_of_the_pages_is_of_a_known_kind() -> None:
    assert {verb(line) for line in shown_commands()} <= READING | LONG | {""}


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    site = tmp_path / "site"
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", site],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert "discovers better decoder blocks" in (site / "index.html").read_text(encoding="utf-8")
    assert (site / "files" / "benchmarks" / "results" / "copying.txt").exists()
    assert "PrimerEZBlock" in (site / "reference" / "blocks.html").read_text(encoding="utf-8")
