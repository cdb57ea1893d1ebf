"""Ablation: effects of changes and minimal programs, with losses from a formula."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest

from primer_search.configs import dump
from primer_search.primitives import DNA, UsageError, WorkFailedError
from primer_search.primitives.differences.essential_changes import essential_changes
from primer_search.primitives.differences.program_diff import ProgramDiff, diff_programs
from primer_search.primitives.errors import InvalidProgramError
from primer_search.primitives.programs.library import get
from primer_search.primitives.programs.program import Instruction
from primer_search.primitives.programs.program_json import dna_from_json
from primer_search.search.config import RunConfig
from primer_search.search.evolution.candidate import Candidate
from primer_search.search.reports.pages.ablation_report import headline, render_ablation, write_ablation
from primer_search.search.results.program_reference import NamedProgram
from primer_search.search.runs.store import Store
from primer_search.search.studies import ablation
from primer_search.search.studies.ablation import Ablation, ablate
from primer_search.tests.support.command import command, refused
from primer_search.tests.support.formula_trainer import SCALE, FormulaTrainer, structure_key, use_trainer
from primer_search.tests.support.tiny_runs import CONFIG, write_text
from primer_search.workers.config import DataConfig

BASELINE = get("TRANSFORMER", 1)


def with_last(dna: DNA, name: str, *ops: str) -> DNA:
    """Return the program with instructions appended to a subprogram; each reads the one before."""
    index = next(i for i, subprogram in enumerate(dna.subprograms) if subprogram.name == name)
    body = dna.subprograms[index].instructions
    for op in ops:
        body = (*body, Instruction(op, in1=len(body) + 1))
    return dna.with_instructions(index, body)


# Change 1 a convolution, 2 a tanh on the residual, 3 the squared ReLU, 4 silent.
CANDIDATE = with_last(
    with_last(with_last(BASELINE, "head_projection", "DCONV_3X1"), "residual", "TANH"), "relu", "SQUARE", "ABS"
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    text = write_text(tmp_path_factory.mktemp("data") / "text")
    return replace(CONFIG, data=DataConfig(f"text:{text}", 50_000))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path_factory.getbasetemp() / "ablation-cache"))


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> FormulaTrainer:
    return use_trainer(FormulaTrainer(noise=0.002), monkeypatch)


def value(trainer: FormulaTrainer, between: ProgramDiff, gain: Callable[[frozenset[int]], float]) -> None:
    """Set the gain in nats of every program between two, as a function of its changes."""
    numbers = sorted(between.numbers)
    subsets: Iterable[tuple[int, ...]] = chain.from_iterable(combinations(numbers, n) for n in range(len(numbers) + 1))
    for subset in subsets:
        try:
            trainer.gains.setdefault(structure_key(between.apply(subset)), gain(frozenset(subset)))
        except InvalidProgramError:
            continue


def summed(gains: dict[int, float]) -> Callable[[frozenset[int]], float]:
    return lambda applied: sum(gains.get(number, 0.0) for number in applied)


def ablated(config: RunConfig, candidate: DNA = CANDIDATE, seed: DNA = BASELINE, **options: Any) -> Ablation:
    options = {"seeds": (0, 1, 2), "log": None, **options}
    return ablate(config, NamedProgram("the baseline", seed), NamedProgram("candidate 9", candidate), **options)


# --- effects ----------------------------------------------------------------------------------------------------


def test_each_change_has_an_ablation_and_an_insertion_effect(config: RunConfig, trainer: FormulaTrainer) -> None:
    between = diff_programs(BASELINE, CANDIDATE)
    assert [item.kind for item in between.changes] == ["insert"] * 4
    named = {item.description.split(" = ")[1].split("(")[0]: item.number for item in between.changes}
    worth = {named["DCONV_3X1"]: 0.05, named["SQUARE"]: 0.1, named["TANH"]: -0.08}
    value(trainer, between, summed(worth))
    found = ablated(config)
    assert len(found.effects) == 3
    for effect in found.effects:
        expected = SCALE * worth[effect.change.number]
        assert effect.ablation is not None
        assert effect.insertion is not None
        assert effect.ablation.mean == pytest.approx(expected, abs=0.006)
        assert effect.insertion.mean == pytest.approx(expected, abs=0.006)
        assert effect.verdict == ("harms" if expected < 0 else "helps")
        assert effect.kept == (expected > 0)
    assert found.whole.mean == pytest.approx(SCALE * 0.07, abs=0.006)
    assert [sentence.split(" = ")[1] for sentence in found.silent] == ["ABS(x3)"]
    expected = with_last(with_last(BASELINE, "head_projection", "DCONV_3X1"), "relu", "SQUARE")
    assert structure_key(found.minimal) == structure_key(expected)


def test_the_effect_of_the_no_op_is_the_noise(config: RunConfig, trainer: FormulaTrainer) -> None:
    value(trainer, diff_programs(BASELINE, CANDIDATE), summed({}))
    found = ablated(config)
    assert found.control is not None
    assert abs(found.control.mean) < 0.005
    assert not found.control.excludes_zero
    assert sum(request.seed == 0 for request in trainer.seen) == 9  # seed, candidate, 3 without, 3 alone, no-op


def test_a_note_says_when_no_program_allows_a_no_op(config: RunConfig, trainer: FormulaTrainer) -> None:
    seed = get("TRANSFORMER_PP", 1)
    found = ablated(config, with_last(seed, "residual", "TANH"), seed)
    assert found.control is None
    assert any("no no-op as control" in note for note in found.notes)


def test_programs_with_the_same_function_are_trained_once(config: RunConfig, trainer: FormulaTrainer) -> None:
    """With two changes, the candidate without one is the baseline with the other."""
    found = ablated(config, with_last(with_last(BASELINE, "head_projection", "DCONV_3X1"), "relu", "SQUARE"))
    assert len(trainer.seen) == 5 * 3
    assert len({(request.dna, request.seed) for request in trainer.seen}) == 5 * 3
    assert [effect.insertion_note for effect in found.effects] == [
        f"the same function as the candidate without change {number}" for number in (2, 1)
    ]
    assert all(effect.insertion is not None for effect in found.effects)


def test_a_program_the_language_refuses_is_listed_with_the_reason(config: RunConfig, trainer: FormulaTrainer) -> None:
    """Without T_MAT_MUL, the left input of MAT_MUL is not a matrix of scores."""
    body = BASELINE.subprograms[1].instructions
    gated = replace(body[6], op="MULTIPLY", in1=6)
    candidate = BASELINE.with_instructions(1, (*body[:4], replace(body[5], in1=5), gated))
    found = ablated(config, candidate)
    without = {effect.change.kind: effect for effect in found.effects}["op"]
    assert without.ablation is None
    assert without.ablation_note.startswith("refused (kinds): ")
    assert without.verdict == "needed: refused without it"
    assert without.kept


def test_a_change_without_which_nothing_trains_is_kept(config: RunConfig, trainer: FormulaTrainer) -> None:
    between = diff_programs(BASELINE, CANDIDATE)
    number = min(essential_changes(between))
    trainer.outcomes[structure_key(between.apply(essential_changes(between) - {number}))] = "non_finite"
    found = ablated(config)
    effect = next(effect for effect in found.effects if effect.change.number == number)
    assert effect.verdict == "needed: does not train without it"
    assert effect.ablation_note == "non_finite with 3 of 3 repeats (said so)"
    assert effect.kept


def test_one_repeat_gives_no_interval_and_drops_nothing(config: RunConfig, trainer: FormulaTrainer) -> None:
    found = ablated(config, seeds=(0,))
    assert {effect.verdict for effect in found.effects} == {"too few trainings to say"}
    assert len(found.minimal_changes) == 3
    assert "one repeat" in headline(found)


# --- the minimal program ----------------------------------------------------------------------------------------


def test_the_baseline_is_the_minimal_program_if_no_change_has_an_effect(
    config: RunConfig, trainer: FormulaTrainer
) -> None:
    value(trainer, diff_programs(BASELINE, CANDIDATE), summed({}))
    found = ablated(config)
    assert found.minimal_changes == ()
    assert structure_key(found.minimal) == structure_key(BASELINE)
    assert [each.accepted for each in found.rounds] == [True]
    assert len(trainer.seen) == 9 * 3  # the baseline had been trained


def test_changes_that_replace_each_other_are_not_all_dropped(config: RunConfig, trainer: FormulaTrainer) -> None:
    value(trainer, diff_programs(BASELINE, CANDIDATE), lambda applied: 0.2 if len(applied - {4}) > 1 else 0.0)
    found = ablated(config)
    assert {effect.verdict for effect in found.effects} == {"no effect shown"}
    assert [each.accepted for each in found.rounds] == [False, True]
    assert len(found.minimal_changes) == 2


def test_no_change_is_dropped_if_every_smaller_program_is_worse(
    config: RunConfig, trainer: FormulaTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablation, "MAX_ROUNDS", 1)
    value(trainer, diff_programs(BASELINE, CANDIDATE), lambda applied: 0.2 if len(applied - {4}) > 1 else 0.0)
    found = ablated(config)
    assert [each.accepted for each in found.rounds] == [False]
    assert len(found.minimal_changes) == 3
    assert any(note.startswith("not minimised") for note in found.notes)


# --- limits and errors ------------------------------------------------------------------------------------------


def test_a_limit_of_trainings_leaves_out_insertions_first(config: RunConfig, trainer: FormulaTrainer) -> None:
    found = ablated(config, most_trials=20)
    assert len(trainer.seen) <= 20
    assert all(effect.ablation is not None for effect in found.effects)
    assert {effect.insertion_note for effect in found.effects} == {"left out because of --max-trials"}
    with pytest.raises(UsageError, match="need 18 trainings, more than --max-trials 17"):
        ablated(config, most_trials=17)


def test_a_candidate_with_the_function_of_the_baseline_is_refused(config: RunConfig, trainer: FormulaTrainer) -> None:
    with pytest.raises(UsageError, match="computes the same function"):
        ablated(config, with_last(BASELINE, "relu", "ABS"))
    assert not trainer.seen


def test_a_candidate_that_does_not_train_is_an_error(config: RunConfig, trainer: FormulaTrainer) -> None:
    trainer.outcomes[structure_key(CANDIDATE)] = "timeout"
    with pytest.raises(WorkFailedError, match="the candidate did not train: timeout"):
        ablated(config)


# --- files and command --------------------------------------------------------------------------------------------


def test_the_files_are_complete_and_readable(config: RunConfig, trainer: FormulaTrainer, tmp_path: Path) -> None:
    found = replace(ablated(config), name="<b>candidate</b>")
    write_ablation(found, tmp_path)
    assert dna_from_json((tmp_path / "minimal.json").read_text()) == found.minimal
    facts = json.loads((tmp_path / "ablation.json").read_text())
    assert len(facts["effects"]) == 3
    assert facts["minimal"]["changes"] == list(found.minimal_changes)
    page = (tmp_path / "ablation.html").read_text()
    assert "<b>candidate</b>" not in page.replace("\\u003cb\\u003e", "")
    assert 'src="http' not in page
    for effect in found.effects:
        assert effect.change.description in page
    assert page == render_ablation(found) or len(page) == len(render_ablation(found))  # plotly draws identifiers


def test_the_command_ablates_a_library_program_and_resumes_from_its_log(
    config: RunConfig, trainer: FormulaTrainer, tmp_path: Path
) -> None:
    settings = tmp_path / "tiny.toml"
    settings.write_text(dump(config))
    arguments = ("ablate", "PRIMER_EZ", "--config", settings, "--executor", "inline", "-o", tmp_path / "out")
    shown = command(*arguments)
    assert shown.code == 0, shown.err
    assert "Insert in head_projection: x3 = DCONV_3X1(x2)" in shown.out
    assert (tmp_path / "out" / "ablation.html").exists()
    trainings = len(trainer.seen)
    again = command(*arguments, "--json")
    assert again.code == 0, again.err
    assert again.json["name"] == "PRIMER_EZ"
    assert len(trainer.seen) == trainings
    checked = command("check", tmp_path / "out" / "minimal.json", "--config", settings, "--json")
    assert checked.code == 0
    assert checked.json["accepted"]


def test_the_command_ablates_a_candidate_with_the_settings_of_its_run(
    config: RunConfig, trainer: FormulaTrainer, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with Store.create(run, {"config": config.to_dict(), "seed": 0, "workers": 1}) as store:
        store.add_candidate(Candidate(0, BASELINE, None, (), "hash of the baseline"))
        store.add_candidate(Candidate(1, CANDIDATE, 0, ("Insert",), "hash of 1"))
    shown = command("ablate", run, "1", "--repeats", "2", "--max-trials", "30", "--json")
    assert shown.code == 0, shown.err
    assert shown.json["name"] == "candidate 1 of run"
    assert shown.json["config"]["trial"] == config.to_dict()["trial"]
    assert (run / "ablation-1" / "minimal.json").exists()
    assert "is the baseline itself" in refused("ablate", run, "baseline")
    assert "--config is for library programs" in refused("ablate", run, "1", "--config", "laptop")
    assert "--trial-budget" in refused("ablate", run, "1", "--trial-budget", "5s")
    assert "NO_SUCH" in refused("ablate", "NO_SUCH")
