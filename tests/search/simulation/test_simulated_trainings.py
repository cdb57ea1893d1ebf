"""Invented trainings: drawn from the tape, repeatable, and stopped at hurdles as real ones are."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import pytest

import primer_search
from primer_search.benchmarks.distill_tape import TAPES, distil
from primer_search.benchmarks.replay_data import read_entries
from primer_search.configs.load import load
from primer_search.primitives.programs import library
from primer_search.search.evolution.candidate import Candidate
from primer_search.search.simulation.found_program import found_program
from primer_search.search.simulation.recorded_trainings import RecordedTraining, load_recording
from primer_search.search.simulation.simulated_trainer import NOISE_SD, SimulatedTrainer
from primer_search.search.simulation.true_programs import (
    LARGEST_GAIN,
    LARGEST_PRICE,
    PRICE_SLOPE,
    Effect,
    TrueProgram,
    TruePrograms,
    sum_of_effects,
)
from primer_search.workers.config import TrialConfig
from primer_search.workers.protocol import Evaluation, HurdleThreshold, TrialRequest

ROOT = Path(primer_search.__file__).parent
RECORDING = load_recording()
DNA = library.get("TRANSFORMER", 8)
HOURS = load("primer_paper").trial
STEPS = load("laptop").trial


def candidates(count: int, *, chain: bool = False, mutation: str = "Mutate") -> dict[int, Candidate]:
    """The baseline, and children of it or of each other."""
    found = {0: Candidate(0, DNA, None, (), "root")}
    for number in range(1, count + 1):
        found[number] = Candidate(number, DNA, number - 1 if chain else 0, (mutation,), f"{number:064x}"[::-1])
    return found


def trainer(trial: TrialConfig, family: dict[int, Candidate], seed: int = 0) -> tuple[SimulatedTrainer, TruePrograms]:
    programs = TruePrograms(RECORDING, seed, family.__getitem__)
    return SimulatedTrainer(trial, RECORDING, programs), programs


def run(simulated: SimulatedTrainer, candidate: int, seed: int, *hurdles: HurdleThreshold) -> Evaluation:
    return simulated.run(TrialRequest(0, candidate, "", seed, hurdles), lambda progress: None)


def test_the_recording_of_the_package_is_the_tape() -> None:
    tapes = [ROOT / "benchmarks" / "results" / name for name in TAPES]
    assert (ROOT / "search/simulation/recorded_trainings.json").read_text() == distil(read_entries(tapes))


@pytest.mark.parametrize("mutations", ["paper", "live"])
def test_effects_of_children_are_those_of_the_tape(mutations) -> None:
    family = candidates(4000)
    programs = TruePrograms(RECORDING, 0, family.__getitem__, mutations)
    drawn = [programs[number] for number in family if number]
    recorded = [each for each in RECORDING.children if each.kind == mutations and each.parent_gain < 0.01]
    effects = [each.effect for each in recorded if each.effect is not None]
    assert fmean(each.fault is not None for each in drawn) == pytest.approx(1 - len(effects) / len(recorded), abs=0.02)
    mean = fmean(each.total.gain for each in drawn if each.fault is None)
    assert mean == pytest.approx(fmean(effects), abs=5 * stdev(effects) / math.sqrt(len(drawn)))
    assert {each.fault.outcome for each in drawn if each.fault} == {each.outcome for each in recorded} - {"ok"}


def test_a_merge_adds_the_effects_of_both_programs_and_a_revert_takes_one_away() -> None:
    family = candidates(3) | {
        number: Candidate(number, DNA, parent, (edit,), f"{number:064x}"[::-1])
        for number, parent, edit in [
            (4, 1, "Mutate"),
            (5, 4, "Merge with #2"),
            (6, 5, "Merge with #4"),  # holds no other edits than its parent
            (7, 6, "Revert of the edit of #1"),
        ]
    }
    found = next(
        programs
        for seed in range(100)
        for programs in [TruePrograms(RECORDING, seed, family.__getitem__)]
        if all(programs[number].fault is None for number in reversed(family))
    )
    gains = {number: found[number].total.gain for number in family}
    misses = {each.effect for each in RECORDING.children if each.kind == "merge"}
    assert round(gains[5] - gains[4] - gains[2], 5) in misses
    assert round(gains[6] - gains[5], 5) in misses
    assert gains[7] == pytest.approx(gains[6] - gains[1])


def known(kind: str, effect: float, log_price: float = 0.0, parent_gain: float = 0.0) -> RecordedTraining:
    return replace(RECORDING.children[0], kind=kind, effect=effect, log_price_change=log_price, parent_gain=parent_gain)


def test_what_a_search_found_is_judged_by_true_programs() -> None:
    """A mutation of the baseline is 0.1 nats better and slower; one of a good program 0.05 better and faster."""
    children = (known("paper", 0.1, 0.2), known("paper", 0.05, -0.1, parent_gain=0.1), known("merge", -0.02))
    recording = replace(RECORDING, children=children)
    edits = {
        1: (0, "Mutate"),
        2: (1, "Mutate"),
        3: (0, "Mutate"),
        4: (2, "Merge with #3"),
        5: (4, "Revert of the edit of #1"),
    }
    family = candidates(0) | {
        number: Candidate(number, DNA, parent, (edit,), f"{number:064x}"[::-1])
        for number, (parent, edit) in edits.items()
    }
    programs = TruePrograms(recording, 0, family.__getitem__)
    outcomes = [(0, "ok"), (1, "ok"), (2, "ok"), (3, "stopped_at_hurdle"), (4, "ok"), (4, "ok"), (5, "non_finite")]
    found = found_program(4, outcomes, family.__getitem__, programs)
    totals = [programs[number].total for number in range(6)]
    assert [each.gain for each in totals] == pytest.approx([0.0, 0.1, 0.15, 0.1, 0.23, 0.13])
    assert [each.log_price for each in totals] == pytest.approx([0.0, 0.2, 0.1, 0.2, 0.3, 0.1])
    assert (found.candidate_id, found.gain) == (4, programs[4].gain)
    assert found.time_gain == pytest.approx(found.gain - PRICE_SLOPE * 0.3)
    assert found.best_gain == max(programs[number].smaller_gain for number in (0, 1, 2, 4))
    assert (found.edits, found.paying_edits, found.paying_in_time) == (3, 1, 1)  # number 1 is too slow, 3 was stopped
    assert found_program(None, [(0, "ok")], family.__getitem__, programs).candidate_id == 0


def test_edits_of_nested_merges_reverts_and_twins_are_found() -> None:
    edits = ["", "Mutate", "Mutate", "Merge with #1", *(f"Merge with #{number - 2}" for number in range(4, 40))]
    family = {0: Candidate(0, DNA, None, (), "root")}
    for number, edit in enumerate(edits[1:], 1):
        family[number] = Candidate(number, DNA, number - 1, (edit,), f"{number:064x}"[::-1])
    family[40] = Candidate(40, DNA, 39, ("Revert of the edit of #1",), f"{40:064x}"[::-1])
    family[41] = replace(family[40], id=41, same_as=40)
    family[42] = Candidate(42, DNA, 41, ("Merge with #1",), f"{42:064x}"[::-1])
    recording = replace(RECORDING, children=(known("paper", 0.01), known("merge", 0.0), known("paper", 0.01, 0.0, 0.1)))
    programs = TruePrograms(recording, 0, family.__getitem__)
    assert programs[42].total.gain == pytest.approx(0.02) and programs[41].total.gain == pytest.approx(0.01)
    assert 1 in programs._edits_of(42) and 1 not in programs._edits_of(41)


def test_sums_of_effects_and_gains_belong_together() -> None:
    for gain in (-2.0, -0.01, 0.0, 0.01, 0.2, 0.5):
        assert TrueProgram(Effect(sum_of_effects(gain), 0.0)).gain == pytest.approx(gain)


def test_gains_and_prices_of_a_long_lineage_stay_within_their_limits() -> None:
    family = {0: Candidate(0, DNA, None, (), "root")}
    _, programs = trainer(HOURS, family)
    best = 0
    for number in range(1, 3000):  # each child of the best so far
        family[number] = Candidate(number, DNA, best, ("Mutate",), f"{number:064x}"[::-1])
        if programs[number].gain > programs[best].gain:
            best = number
    assert 0.25 < programs[best].gain < LARGEST_GAIN
    assert all(abs(programs[number].log_price) <= math.log(LARGEST_PRICE) + 1e-9 for number in family)


def test_a_lineage_of_thousands_is_resolved_without_recursion_and_alike() -> None:
    family = candidates(5000, chain=True)
    _, late = trainer(HOURS, family)
    _, early = trainer(HOURS, family)
    late_program = late[5000]
    assert [early[number] for number in range(5001)][-1] == late_program


def test_a_twin_has_the_program_of_its_original() -> None:
    family = candidates(2)
    family[3] = replace(family[2], id=3, parent=1, same_as=2)
    _, programs = trainer(HOURS, family)
    assert programs[3] == programs[2]


def test_a_training_depends_on_its_candidate_and_seeds_alone() -> None:
    family = candidates(20)
    first, again, other = (trainer(STEPS, family, seed)[0] for seed in (0, 0, 1))
    results = [run(first, number, 7) for number in family]
    assert results == [run(again, number, 7) for number in family]
    assert results != [run(other, number, 7) for number in family]


def test_trainings_of_the_baseline_differ_by_the_noise() -> None:
    simulated, _ = trainer(STEPS, candidates(0))
    losses = [run(simulated, 0, seed).loss_nats or 0.0 for seed in range(400)]
    assert fmean(losses) == pytest.approx(RECORDING.baseline_loss, abs=0.004)
    assert stdev(losses) == pytest.approx(NOISE_SD, rel=0.15)


def test_a_slower_program_takes_longer_in_steps_and_loses_in_seconds() -> None:
    family = candidates(200)
    in_steps, programs = trainer(STEPS, family)
    in_seconds, _ = trainer(HOURS, family)
    slow = next(number for number in family if programs[number].log_price > 0.15 and programs[number].fault is None)
    price, steps, seconds = programs[slow].log_price, run(in_steps, slow, 1), run(in_seconds, slow, 1)
    assert (steps.steps, seconds.train_seconds) == (STEPS.budget_steps, HOURS.budget)
    assert steps.train_seconds == pytest.approx(RECORDING.step_ms * math.exp(price) * STEPS.budget_steps / 1000)
    assert steps.loss_nats is not None and seconds.loss_nats is not None
    assert seconds.steps == pytest.approx(HOURS.budget * 1000 / RECORDING.step_ms / math.exp(price), abs=1)
    assert steps.relative_step == pytest.approx(math.exp(price), rel=0.15) and seconds.relative_step is None
    assert PRICE_SLOPE * price > 4 * NOISE_SD and seconds.loss_nats > steps.loss_nats


def test_a_hurdle_stops_a_training_as_the_protocol_says() -> None:
    simulated, _ = trainer(HOURS, candidates(0))
    free = [HurdleThreshold(at * HOURS.budget, None) for at in (0.03, 0.1, 0.5)]
    full = run(simulated, 0, 3, *free)
    assert full.outcome == "ok" and len(full.hurdle_losses) == 3 and full.spent == HOURS.budget
    assert full.loss_nats is not None and list(full.hurdle_losses) == sorted(full.hurdle_losses, reverse=True)
    loss = full.hurdle_losses[1]
    passed = run(simulated, 0, 3, free[0], replace(free[1], loss_nats=loss + 1e-6), free[2])
    assert passed == full
    stopped = run(simulated, 0, 3, free[0], replace(free[1], loss_nats=loss), free[2])
    assert (stopped.outcome, stopped.hurdle_losses) == ("stopped_at_hurdle", full.hurdle_losses[:2])
    assert stopped.loss_nats is None and stopped.spent == pytest.approx(0.1 * HOURS.budget)
    assert stopped.wall_seconds < 0.11 * HOURS.budget and stopped.curve[-1][0] == pytest.approx(stopped.spent)


def test_a_hurdle_with_a_prediction_and_a_price_is_scored_by_them() -> None:
    simulated, _ = trainer(STEPS, candidates(0))
    free = [HurdleThreshold(100, None), HurdleThreshold(200, None)]
    seen = run(simulated, 0, 5, free[0], replace(free[1], loss_nats=0.0))
    assert seen.outcome == "stopped_at_hurdle" and seen.relative_step is not None
    hurdle = replace(free[1], weights=(-0.5, 1.5), offset=-1.0, price_slope=0.3)
    score = hurdle.score(seen.hurdle_losses, math.log(seen.relative_step))
    assert run(simulated, 0, 5, free[0], replace(hurdle, loss_nats=score)).outcome == "stopped_at_hurdle"
    assert run(simulated, 0, 5, free[0], replace(hurdle, loss_nats=score + 1e-9)).outcome == "ok"
