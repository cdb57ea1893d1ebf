"""Initial programs: what may start a search, what it is called, and how it is told from the baseline."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from primer_search.configs.load import load
from primer_search.primitives.errors import UsageError
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.library import get
from primer_search.primitives.programs.program import DNA
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.config import RunConfig
from primer_search.search.doctor.leaky_programs import LEAKY_PROGRAMS
from primer_search.search.evolution.candidate import BASELINE_ID
from primer_search.search.evolution.initial_programs import (
    InitialProgram,
    initial_program_origins,
    read_initial_programs,
)
from primer_search.search.sessions.load_initial_programs import load_initial_programs
from primer_search.tests.support.command import HandmadeRun, command

CONFIG = load("laptop", ["model.heads=8"])
UNIT = CONFIG.model.unit


def named(*texts: str | Path, config: RunConfig = CONFIG) -> tuple[InitialProgram, ...]:
    initial_programs, notes = load_initial_programs([str(text) for text in texts], config)
    assert notes == ()
    return initial_programs


def refusal(*texts: str | Path, config: RunConfig = CONFIG) -> str:
    with pytest.raises(UsageError) as refused:
        load_initial_programs([str(text) for text in texts], config)
    return str(refused.value)


def changed(section: str, **settings: Any) -> RunConfig:
    return replace(CONFIG, **{section: replace(getattr(CONFIG, section), **settings)})


def written(path: Path, dna: DNA) -> Path:
    path.write_text(dna_to_json(dna))
    return path


@pytest.fixture
def run(tmp_path: Path) -> HandmadeRun:
    """A run at unit 8 whose candidate 1 is PRIMER_EZ as fitted to that unit."""
    run = HandmadeRun(tmp_path / "earlier")
    run.child("PRIMER_EZ", 2.5)
    return run


# --- what is named ---


def test_library_programs_are_fitted_to_the_width_and_others_taken_as_they_are(tmp_path: Path) -> None:
    file = written(tmp_path / "mine.json", get("TRANSFORMER_MDHA", 64))
    library, mine = named("PRIMER_EZ", file)
    assert (library.candidate_id, library.origin, library.dna) == (1, "PRIMER_EZ", get("PRIMER_EZ", UNIT))
    assert (mine.candidate_id, mine.origin, mine.dna) == (2, str(file), get("TRANSFORMER_MDHA", 64))


def test_a_candidate_goes_by_its_run_and_number(run: HandmadeRun) -> None:
    (initial_program,) = named(f"{run.path}:best", config=changed("model", unit=8))
    assert (initial_program.origin, initial_program.dna) == ("earlier:1", get("PRIMER_EZ", 8))
    assert initial_program.description == "Imported from earlier:1"


def test_a_candidate_of_another_width_keeps_its_constants_which_is_said(run: HandmadeRun) -> None:
    (initial_program,), notes = load_initial_programs([f"{run.path}:1"], changed("model", unit=4))
    assert initial_program.dna == get("PRIMER_EZ", 8)
    assert len(notes) == 1 and "was found at unit 8 and is trained at unit 4" in notes[0]


def test_programs_of_one_function_count_once_which_is_said(tmp_path: Path) -> None:
    twin = get("PRIMER_EZ", UNIT)
    file = written(tmp_path / "twin.json", replace(twin, constants=(*twin.constants, 0.25)))
    initial_programs, notes = load_initial_programs(["PRIMER_EZ", str(file), "PRIMER_EZ", "TRANSFORMER_PP"], CONFIG)
    assert [(initial_program.candidate_id, initial_program.origin) for initial_program in initial_programs] == [
        (1, "PRIMER_EZ"),
        (2, "TRANSFORMER_PP"),
    ]
    assert notes == (
        f"--init {file} computes the same function as PRIMER_EZ, so both count as one program",
        "--init PRIMER_EZ computes the same function as PRIMER_EZ, so both count as one program",
    )


def test_what_computes_the_same_as_the_baseline_is_the_baseline(tmp_path: Path) -> None:
    seed = get("TRANSFORMER", UNIT)
    assert named("TRANSFORMER") == (InitialProgram(BASELINE_ID, "TRANSFORMER", seed),)
    file = written(tmp_path / "twin.json", replace(seed, constants=(*seed.constants, 0.25)))
    initial_programs, notes = load_initial_programs([str(file), "PRIMER_EZ"], CONFIG)
    assert [(initial_program.candidate_id, initial_program.dna) for initial_program in initial_programs] == [
        (BASELINE_ID, seed),
        (1, get("PRIMER_EZ", UNIT)),
    ]
    assert len(notes) == 1 and "the same function as the baseline TRANSFORMER" in notes[0]


def test_leave_to_be_length_dependent_that_a_program_does_not_use_is_withdrawn(tmp_path: Path) -> None:
    file = written(tmp_path / "flag.json", replace(get("PRIMER_EZ", UNIT), length_dependent=True))
    assert not named(file)[0].dna.length_dependent
    assert named(file, config=changed("model", length_dependent=True))[0].dna.length_dependent


def test_initial_programs_survive_the_manifest() -> None:
    initial_programs = named("PRIMER_EZ", "TRANSFORMER")
    manifest = json.loads(
        json.dumps({"initial_programs": [initial_program.to_dict() for initial_program in initial_programs]})
    )
    assert read_initial_programs(manifest) == initial_programs
    assert initial_program_origins(manifest) == {1: "PRIMER_EZ", 0: "TRANSFORMER"}


def test_a_manifest_of_before_there_were_initial_programs_has_none() -> None:
    assert (read_initial_programs({}), initial_program_origins({})) == ((), {})


# --- what is refused ---

REFUSALS: dict[str, tuple[Sequence[str], RunConfig, str]] = {
    "a misspelt name": (["PRIMER_ES"], CONFIG, "--init PRIMER_ES: .*did you mean PRIMER_EZ?"),
    "a number": (["3"], CONFIG, "use --seed 3"),
    "one tied to its length": (["PRIMER"], CONFIG, "--init PRIMER is refused: .*--set model.length_dependent=true"),
    "one over the cap": (
        ["TRANSFORMER_PP"],
        changed("model", parameter_cap=1.0),
        "--init TRANSFORMER_PP is refused: .*over the cap of .*--set model.parameter_cap",
    ),
    "more than the population holds": (
        ["TRANSFORMER", "PRIMER_EZ", "TRANSFORMER_PP"],
        changed("search", population=2),
        "3 programs of --init do not fit .*--set search.population=3",
    ),
    "any, where nobody has parents": (["PRIMER_EZ"], changed("search", strategy="random-init"), "random-init"),
    "a baseline that is none here": (
        ["PRIMER_EZ"],
        changed("search", baseline="TRANSFORMERS"),
        "did you mean TRANSFORMER?",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_found_a_search_is_refused_by_name_with_a_remedy(case: str) -> None:
    texts, config, hint = REFUSALS[case]
    assert re.search(hint, refusal(*texts, config=config))


def test_a_width_of_no_whole_channels_is_refused(tmp_path: Path) -> None:
    program = {"main": "output = head h0 branches=16", "head": "output = CONV_1X1 h0 width=8"}
    file = written(tmp_path / "narrow.json", assemble(program, {"zero": 0.0}, (8,)))
    said = refusal(file, config=changed("model", unit=1))
    assert f"--init {file} is refused" in said and "choose another --set model.unit" in said


@pytest.mark.parametrize("leaky", LEAKY_PROGRAMS)
def test_no_program_that_cheats_founds_a_search(leaky: str, tmp_path: Path) -> None:
    file = written(tmp_path / "cheat.json", LEAKY_PROGRAMS[leaky].dna)
    generous = changed("model", parameter_cap=100.0)
    assert f"--init {file} is refused" in refusal(file, config=generous)


# --- what people see ---


@pytest.fixture
def founded(tmp_path: Path) -> HandmadeRun:
    """A run from two initial programs; candidate 3 descends from the first, 4 from the baseline."""
    run = HandmadeRun(tmp_path / "founded")
    initial_programs = [
        InitialProgram(1, "earlier:45", get("PRIMER_EZ", 8)),
        InitialProgram(2, "mine.json", get("TRANSFORMER_PP", 8)),
    ]
    run.store.set_manifest({"initial_programs": [initial_program.to_dict() for initial_program in initial_programs]})
    for initial_program, loss in zip(initial_programs, (2.6, 3.5), strict=True):
        run.initial_program(initial_program, loss)
    run.child("TRANSFORMER_MDHA", 2.5, parent=1)
    run.child("TRANSFORMER_GELU", 3.05)
    return run


def test_the_leaderboard_says_where_initial_programs_came_from(founded: HandmadeRun) -> None:
    rows = {row["id"]: row for row in command("leaderboard", founded.path, "--json").json["candidates"]}
    assert {number: row["origin"] for number, row in rows.items()} == {
        0: None, 1: "earlier:45", 2: "mine.json", 3: None, 4: None,
    }  # fmt: skip
    assert [step["candidate_id"] for step in rows[3]["lineage"]] == [1, 3]
    assert rows[3]["lineage"][0]["mutations"] == ["Imported from earlier:45"]
    assert [step["candidate_id"] for step in rows[4]["lineage"]] == [4]


def test_the_printed_leaderboard_shows_initial_programs_and_the_baseline_wherever_they_stand(
    founded: HandmadeRun,
) -> None:
    out = command("leaderboard", founded.path, "--top", "1").out
    assert "#1 from earlier:45 · #2 from mine.json" in out
    assert out.count("Imported from mine.json") == 1
    assert "the baseline" in out and "the program the search started from" not in out
    assert "It is 0.1000 nats below the best initial program, #1 from earlier:45." in out


def test_a_initial_program_that_leads_is_not_said_to_be_found(founded: HandmadeRun) -> None:
    founded.initial_program(InitialProgram(5, "late.json", get("TRANSFORMER_SQUARED_RELU", 8)), 2.0)
    manifest = founded.store.manifest["initial_programs"]
    late = InitialProgram(5, "late.json", get("TRANSFORMER_SQUARED_RELU", 8)).to_dict()
    founded.store.set_manifest({"initial_programs": [*manifest, late]})
    assert "Candidate 5 (imported from late.json) is 1.0000 nats" in command("leaderboard", founded.path).out


def test_show_says_of_a_initial_program_where_it_came_from(founded: HandmadeRun) -> None:
    assert command("show", founded.path, "1").out.startswith("candidate 1, imported from earlier:45\n")
    assert command("show", founded.path, "2", "--json").json["origin"] == "mine.json"
    child = command("show", founded.path, "3", "--diff", "parent").out
    assert child.startswith("candidate 3, child of candidate 1\n")
    assert "ancestry, from earlier:45:\n  #1\n    Imported from earlier:45\n  #3\n" in child
    assert "ancestry, from the baseline:\n  #4\n" in command("show", founded.path, "4").out


def test_the_report_says_where_initial_programs_came_from(founded: HandmadeRun, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert command("report", founded.path, "-o", page).code == 0
    html = page.read_text(encoding="utf-8")
    for words in ("#1 from earlier:45 · #2 from mine.json", "ancestry, from earlier:45", "Imported from mine.json"):
        assert words in html
    assert "the program the search started from" not in html
