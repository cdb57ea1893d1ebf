"""Searches by the command that start from a file of DNA, and from what such a search had found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.runs.store import Store
from primer_search.tests.support.command import Result, command
from primer_search.tests.support.tiny_runs import INITIAL_PROGRAMS, write_text

SMOKE = ("--config", "smoke", "--executor", "inline", "--set", "trial.hurdles=0", "--set", "search.baseline_trials=1")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRIMER_SEARCH_CACHE", str(folder / "cache"))
        yield f"text:{write_text(folder / 'text')}"


def searched(path: Path, result: Result, initial_programs: int) -> Path:
    """The run, taken up again until a child of an initial program has trained in full, however slow the machine."""
    assert result.code == 0, result
    for doublings in range(7):
        rows = command("leaderboard", path, "--json").json["candidates"]
        if any(row["rank"] and row["id"] > initial_programs for row in rows):
            return path
        assert command("resume", path, "--budget", f"{5 * 2**doublings}s").code == 0
    pytest.fail("no child of an initial program trained in full")


@pytest.fixture(scope="module")
def first(source: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search from two files."""
    folder = tmp_path_factory.mktemp("runs")
    files = [folder / initial_program.origin for initial_program in INITIAL_PROGRAMS]
    for file, initial_program in zip(files, INITIAL_PROGRAMS, strict=True):
        file.write_text(dna_to_json(initial_program.dna))
    path = folder / "first"
    result = command(
        "--budget",
        "3s",
        *SMOKE,
        "--data",
        source,
        "--run-dir",
        path,
        *(word for file in files for word in ("--init", file)),
    )
    return searched(path, result, len(files))


def test_a_search_from_files_says_so_of_everybody_who_descends_from_them(first: Path) -> None:
    rows = {row["id"]: row for row in command("leaderboard", first, "--json").json["candidates"]}
    files = {number: str(first.parent / INITIAL_PROGRAMS[number - 1].origin) for number in (1, 2)}
    assert rows[0]["origin"] is None
    for number, file in files.items():
        assert (rows[number]["origin"], rows[number]["parent"]) == (file, None)
        assert (rows[number]["outcome"], rows[number]["trials"]) == ("ok", 1)
    child = next(row for row in rows.values() if row["id"] > 2)
    initial_program = child["lineage"][0]
    assert initial_program["mutations"] == [f"Imported from {files[initial_program['candidate_id']]}"]
    assert f"ancestry, from {files[initial_program['candidate_id']]}:" in command("show", first, str(child["id"])).out


def test_the_manifest_keeps_the_programs_and_where_they_came_from(first: Path) -> None:
    with Store.open(first, read_only=True) as store:
        kept = store.manifest["initial_programs"]
        assert [each["dna"] for each in kept] == [dna_to_json(store.candidate(number).dna) for number in (1, 2)]
    assert [json.loads(each["dna"]) for each in kept] == [
        json.loads(dna_to_json(initial_program.dna)) for initial_program in INITIAL_PROGRAMS
    ]


def test_what_one_search_found_starts_the_next(first: Path, source: str) -> None:
    best = command("show", first, "best", "--json").json
    path = first.parent / "second"
    named = ["--init", f"{first}:best", "--init", f"{first}:{best['id']}"]
    result = command("--budget", "3s", *SMOKE, "--data", source, "--run-dir", path, *named)
    named_twice = f"{first}:{best['id']} computes the same function as first:{best['id']}, so both count as one program"
    assert f"--init {named_twice}" in result.err
    searched(path, result, 1)
    initial_program = command("show", path, "1", "--json").json
    assert (initial_program["dna"], initial_program["origin"]) == (best["dna"], f"first:{best['id']}")
    assert initial_program["structure_hash"] == best["structure_hash"]
    with Store.open(path, read_only=True) as store:
        assert dna_to_json(store.candidate(0).dna) == store.manifest["baseline_dna"]
        assert 0 not in {candidate.parent for candidate in store.candidates()}
    assert f"Imported from first:{best['id']}" in command("leaderboard", path).out
