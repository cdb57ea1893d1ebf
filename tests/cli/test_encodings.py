"""Every command where the streams are ASCII or Latin-1: it prints what it can, and ends as it does in UTF-8."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from primer_search.cli.app import app
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.tests.support.tiny_runs import BASELINE
from primer_search.tests.support.tiny_weights import tiny_run

ENCODINGS = pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
RUN = "größe → ∞"
"""Name of a folder that neither encoding can print."""

TABLES: list[list[str]] = [
    ["leaderboard", RUN],
    ["show", RUN, "1"],
    ["show", RUN, "1", "--diff", "baseline"],
    ["report", RUN],
    ["repair", RUN, "--check"],
    ["clean", RUN, "--dry-run"],
    ["stop", RUN],
    ["check", "block ∞.json"],
    ["primitives"],
    ["simulate", "--workers", "5", "--budget", "20h", "--proposals", "copies", "--controller-clock", "none"],
    ["--dry-run", "--config", "smoke", "--data", "text:text"],
    ["data", "prepare", "text:text"],
]
WORK: list[list[str]] = [
    ["train", RUN, "1"],
    ["generate", RUN, "1", "--prompt", "the ünd →", "--tokens", "4"],
    ["analyze", RUN, "1"],
    ["refine", RUN, "1", "--tokens", "800", "--shares", "0.5", "-o", "refined ∞"],
    ["export", RUN, "1", "-o", "block ∞.py"],
    ["confirm", RUN, "--top", "1", "--repeats", "1"],
    ["ablate", "block ∞.json", "--config", "small.toml", "--repeats", "1", "-o", "ablated ∞"],
    ["compare", "TRANSFORMER", "PRIMER_EZ", "--config", "small.toml", "--repeats", "1", "-o", "compared ∞"],
    ["stress", "PRIMER_EZ", "--config", "small.toml", "--layers", "1", "--length-factor", "1", "--steps", "0"],
    ["resume", RUN, "--budget", "2s"],
    ["doctor", "--quick"],
    ["track", RUN, "--to", "tensorboard"],
]
EACH = """
import json, sys
from primer_search.cli.app import main

for words in json.loads(sys.argv[1]):
    print("==", json.dumps(words), flush=True)
    sys.argv = ["primer-search", *words]
    print("code", main(), flush=True)
"""


def every_command() -> list[list[str]]:
    """The words of each command, those with subcommands included."""
    found, todo = [], [([], typer.main.get_command(app))]
    while todo:
        words, item = todo.pop()
        found.append(words)
        commands: dict[str, Any] = getattr(item, "commands", {})
        todo += [([*words, name], one) for name, one in commands.items()]
    return found


def codes(folder: Path, encoding: str, commands: list[list[str]]) -> dict[str, int]:
    """The exit code of each command, by its words; no stream may have met a character that it cannot write."""
    cache = {"PRIMER_SEARCH_CACHE": str(folder / "cache"), "PYTHONUTF8": "0", "PYTHONIOENCODING": encoding}
    result = subprocess.run(
        [sys.executable, "-c", EACH, json.dumps(commands)],
        cwd=folder, env={**os.environ, **cache}, capture_output=True, timeout=3000,
    )  # fmt: skip
    out, err = result.stdout.decode(encoding), result.stderr.decode(encoding)
    assert "UnicodeEncodeError" not in out + err and "Traceback" not in err, err
    parts = re.findall(r"^== (.*)\n(?:(?!== ).*\n)*?code (\d+)$", out, re.MULTILINE)
    assert len(parts) == len(commands), out + err
    return {" ".join(json.loads(words)): int(code) for words, code in parts}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a small run whose name no stream can print, its text, and a program."""
    tiny_run(tmp_path).rename(tmp_path / RUN)
    (tmp_path / "block ∞.json").write_text(dna_to_json(BASELINE))
    (tmp_path / "small.toml").write_text(
        '[model]\nlayers = 1\nunit = 1\nlength = 8\nvocabulary = 300\n[data]\nsource = "text:text"\n'
        '[trial]\nunit = "steps"\nbudget_steps = 16\n[workers]\nexecutor = "inline"\ncount = 1\n'
    )
    return tmp_path


@ENCODINGS
def test_every_command_can_print_its_help(encoding: str, tmp_path: Path) -> None:
    commands = [[*words, "--help"] for words in every_command()]
    assert len(commands) > 20
    assert set(codes(tmp_path, encoding, commands).values()) == {0}


@ENCODINGS
def test_every_command_that_only_reads_ends_as_in_utf_8(encoding: str, folder: Path) -> None:
    assert set(codes(folder, encoding, TABLES).values()) == {0}


@pytest.mark.slow
@ENCODINGS
def test_every_command_that_trains_ends_as_in_utf_8(encoding: str, folder: Path) -> None:
    assert {words: code for words, code in codes(folder, encoding, WORK).items() if code} == {}


def test_all_commands_are_tried() -> None:
    tried = {words[0] for words in TABLES + WORK if not words[0].startswith("-")}
    named = {words[0] for words in every_command() if words}
    assert named - tried == {"dashboard"}, "which prints its address alone"
