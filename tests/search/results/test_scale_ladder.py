"""A ladder of scales: how programs move to other sizes, what its scales say, and that it trains and resumes."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from primer_search.cli.app import main
from primer_search.configs.scale_option import parse_scales
from primer_search.primitives import DNA, build_graph
from primer_search.primitives.errors import UsageError
from primer_search.primitives.graphs.query_scales import rescale_queries
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.config import RunConfig
from primer_search.search.evolution.candidate import BASELINE_ID, Candidate
from primer_search.search.reports.pages.run_page import render_report
from primer_search.search.reports.tables.scale_table import ladder_notes, print_ladder
from primer_search.search.results.confirmation import Retraining
from primer_search.search.results.leaderboard import leaderboard
from primer_search.search.results.scale_ladder import Ladder, Scale, build_ladder
from primer_search.search.runs.store import Store
from primer_search.search.studies.confirm import confirm
from primer_search.search.studies.confirm_at_scale import LOG
from primer_search.tests.support.command import refused
from primer_search.tests.support.formula_trainer import FormulaTrainer, structure_key, use_trainer
from primer_search.tests.support.tiny_runs import CONFIG, CONSTANTS, write_text
from primer_search.workers.config import DataConfig
from primer_search.workers.protocol import Evaluation, TrialRequest

BASELINE, SINE, BRANCHED = (
    assemble(texts, CONSTANTS, (8, 16))
    for texts in (
        {"main": "mixed = CONV_1X1 h0 width=8\nbent = TANH mixed\noutput = ADD bent h0"},
        {"main": "mixed = CONV_1X1 h0 width=8\nbent = SIN mixed\noutput = ADD bent h0"},
        {"main": "parts = sixteenth h0 h0 branches=16\noutput = ADD parts h0", "sixteenth": "x = CONV_1X1 h0 width=8"},
    )
)
"""The last exists at units of two, four, ... channels: it divides eight of them by sixteen."""

SCALES = ["layers=2,unit=3", "layers=2,unit=4,budget=24"]


# --- moving to another width ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", library.names())
def test_programs_of_the_library_move_as_the_library_fits_them(name: str) -> None:
    assert rescale_queries(library.get(name, 8), 8, 24) == library.get(name, 24)
    assert rescale_queries(library.get(name, 8), 8, 8) == library.get(name, 8)


def test_a_scale_that_has_mutated_moves_as_it_is() -> None:
    program = library.get("TRANSFORMER", 8)
    mutated = replace(program, constants=tuple(1.01 * constant for constant in program.constants))
    assert rescale_queries(mutated, 8, 32) == mutated
    assert rescale_queries(program, 16, 32) == program, "its scale is not that of unit 16"


def test_a_constant_that_others_use_stays_theirs() -> None:
    program = library.get("TRANSFORMER", 8)
    number, relu = next((k, one) for k, one in enumerate(program.subprograms) if one.name == "relu")
    shared = replace(relu.instructions[-1], constant=program.constants.index(1 / math.sqrt(8)))
    shared = program.with_instructions(number, (*relu.instructions[:-1], shared))
    moved = rescale_queries(shared, 8, 32)
    assert moved.constants == (*shared.constants, 1 / math.sqrt(32))
    constants = [sorted(n.constant for n in build_graph(p).nodes if n.constant is not None) for p in (shared, moved)]
    assert constants[0] == [1 / math.sqrt(8), 1 / math.sqrt(8)]
    assert constants[1] == [1 / math.sqrt(32), 1 / math.sqrt(8)]


def test_where_the_bank_is_full_and_shared_nothing_moves() -> None:
    program = library.get("TRANSFORMER", 8)
    number, relu = next((k, one) for k, one in enumerate(program.subprograms) if one.name == "relu")
    shared = replace(relu.instructions[-1], constant=program.constants.index(1 / math.sqrt(8)))
    shared = program.with_instructions(number, (*relu.instructions[:-1], shared))
    full = replace(shared, constants=(*shared.constants, *(7.0 + k for k in range(16 - len(shared.constants)))))
    assert rescale_queries(full, 8, 32) == full


# --- what scales say ---------------------------------------------------------------------------------------------


def told(store: Store, losses: Mapping[str, Sequence[float | None]], scale: Scale | None = None) -> None:
    """Trainings of a scale (of the run's own size) as events; None is one that failed."""
    for name, found in losses.items():
        for seed, loss in enumerate(found):
            result = Evaluation("ok", test_loss_nats=loss, test_bits_per_byte=loss, bits_per_byte=loss)
            result = Evaluation("non_finite", "it blew up", steps=9) if loss is None else result
            number = BASELINE_ID if name == "baseline" else int(name[1:])
            budget = scale.budget if scale else 12.0
            payload = Retraining(name, number, seed, budget, result).payload()
            if scale is not None:
                payload = {"scale": scale.to_dict(), "rescaled": False, **payload}
            store.add_event("retrained_at_scale" if scale else "confirmed", payload, number)


def near(value: float, *more: float) -> list[float]:
    return [value, value + 0.001, value - 0.0005]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A run of tiny trials whose seed and three candidates trained in full."""
    store = Store.create(
        tmp_path, {"config": CONFIG.to_dict(), "seed": 0, "baseline_dna": dna_to_json(BASELINE), "workers": 1}
    )
    add_candidates(store)
    yield store
    store.close()


def add_candidates(store: Store) -> None:
    for number, dna in enumerate((BASELINE, SINE, BRANCHED)):
        store.add_candidate(Candidate(number, dna, 0 if number else None, (), f"hash {number}"))
        trial = store.next_trial_id()
        store.start_trial(TrialRequest(trial, number, "", seed=trial))
        store.finish_trial(trial, Evaluation("ok", loss_nats=3.0 - number, bits_per_byte=1.5))


def read(store: Store) -> Ladder:
    ladder = build_ladder(store.manifest, store.events())
    assert ladder is not None
    return ladder


def test_nothing_at_another_size_is_no_ladder(store: Store) -> None:
    told(store, {"baseline": near(2.0), "#1": near(1.9)})
    assert build_ladder(store.manifest, store.events()) is None
    assert leaderboard(store).to_dict()["ladder"] is None


def test_a_ladder_starts_at_the_runs_own_size_and_rises(store: Store) -> None:
    store.add_candidate(Candidate(3, SINE, 0, (), "hash 3"))
    own = Scale.of(CONFIG)
    high, low = replace(own, layers=8, unit=4), replace(own, layers=2, unit=2)
    told(store, {"baseline": near(1.8), "#1": near(1.7), "#2": near(1.75), "#3": near(1.9)}, high)
    told(store, {"baseline": near(2.0), "#1": near(1.9), "#2": near(1.8), "#3": near(2.1)})
    told(store, {"baseline": near(1.9), "#1": near(1.8), "#2": near(1.7), "#3": (1.7, None, 1.7)}, low)
    ladder = read(store)
    assert ladder.scales == (own, low, high)
    assert [(one.lower, one.upper, one.programs) for one in ladder.agreements] == [(0, 1, 3), (0, 2, 4), (1, 2, 3)]
    assert ladder.agreements[0].kendall_tau == pytest.approx(1.0)
    assert ladder.agreements[1].kendall_tau == pytest.approx(4 / 6)
    assert ladder.agreements[1].spearman_rho == pytest.approx(0.8)
    assert ladder.better_everywhere == ("#1", "#2")
    assert ladder.names == ("#1", "#2", "baseline", "#3")
    failed = ladder.at(1, "#3")
    assert failed is not None and failed.verdict.startswith("unstable: 1 of 3")


def test_scales_are_named_by_all_in_which_they_differ(store: Store) -> None:
    told(store, {"baseline": near(2.0), "#1": near(1.9)})
    told(store, {"baseline": near(2.0), "#1": near(1.9)}, replace(Scale.of(CONFIG), learning_rate=2e-3))
    words = "1 layer of width 8, 12 steps, learning rate"
    assert read(store).labels == (f"{words} 0.002", f"{words} 0.01")


def test_a_rate_that_all_widths_share_is_pointed_out(store: Store) -> None:
    told(store, {"baseline": near(2.0), "#1": near(1.9)})
    told(store, {"baseline": near(2.0), "#1": near(1.9)}, replace(Scale.of(CONFIG), layers=2))
    assert not [note for note in ladder_notes(read(store)) if "learning rate" in note]
    told(store, {"baseline": near(2.0), "#1": near(1.9)}, replace(Scale.of(CONFIG), unit=4))
    (note,) = [note for note in ladder_notes(read(store)) if "learning rate" in note]
    assert "at the learning rate 0.01; wider models may want a lower one" in note


def test_a_baseline_that_finds_no_memory_at_a_scale_leaves_the_others_without_a_difference(store: Store) -> None:
    high = replace(Scale.of(CONFIG), layers=64)
    told(store, {"baseline": near(2.0), "#1": near(1.9), "#2": near(1.8)})
    told(store, {"baseline": (None, None), "#1": (1.8, 1.8), "#2": (None, None)}, high)
    ladder = read(store)
    only = ladder.at(1, "#1")
    assert only is not None and only.result.difference is None
    assert only.verdict == "too few trainings for an interval"
    assert ladder.better_everywhere == ()
    out = io.StringIO()
    print_ladder(ladder, Console(file=out, width=120))
    assert out.getvalue().count("failed 2 of 2") == 2
    assert "no rank correlation of 1 programs" in ladder_notes(ladder)[0]


def test_how_far_a_budget_went_is_said_of_every_scale(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_formula(monkeypatch, {})
    confirm(run, top=1, repeats=1, scales=parse_scales(["budget=24"], config_of(run)))
    ladder = ladder_at(run)
    said = [note for note in ladder_notes(ladder) if "steps of the baseline, the text read 1 times" in note]
    assert [note.partition(":")[0] for note in said] == list(ladder.labels)


def test_the_order_of_two_programs_is_no_correlation(store: Store) -> None:
    told(store, {"baseline": near(2.0), "#1": near(1.9)})
    told(store, {"baseline": near(2.0), "#1": near(1.9)}, replace(Scale.of(CONFIG), layers=2))
    assert read(store).agreements[0].kendall_tau is None
    assert "no rank correlation of 2 programs" in ladder_notes(read(store))[0]


def test_table_and_report_show_every_scale_with_its_intervals(store: Store) -> None:
    high = replace(Scale.of(CONFIG), layers=8)
    told(store, {"baseline": near(2.0), "#1": near(1.9), "#2": near(2.1)})
    told(store, {"baseline": near(1.5), "#1": near(1.6), "#2": (1.4, None, 1.5)}, high)
    out = io.StringIO()
    print_ladder(read(store), Console(file=out, width=120))
    rows = {line.split()[0]: line for line in out.getvalue().splitlines()[2:]}
    assert "1. -0.1000 ± 0.0" in rows["#1"] and "2. +0.1000 ± 0." in rows["#1"]
    assert "failed 1 of 3" in rows["#2"]
    assert "2.0002 bits/byte" in rows["baseline"]
    page = render_report(store)
    assert 'id="ladder"' in page and "8 layers of width 8, 12 steps" in page
    assert "confirmed better than the baseline: none on every scale" in page


# --- trainings --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("data") / "text")


@pytest.fixture
def run(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run at unit 2, where all of its programs exist."""
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(text.parent / "cache"))
    config = replace(CONFIG, data=DataConfig(f"text:{text}", 50_000), model=replace(CONFIG.model, unit=2))
    path = tmp_path / "run"
    path.mkdir()
    manifest = {"config": config.to_dict(), "seed": 0, "baseline_dna": dna_to_json(BASELINE), "workers": 1}
    with Store.create(path, manifest) as store:
        add_candidates(store)
    return path


def config_of(run: Path) -> RunConfig:
    with Store.open(run, read_only=True) as store:
        return RunConfig.from_dict(store.manifest["config"])


def by_formula(monkeypatch: pytest.MonkeyPatch, gains: Mapping[DNA, float]) -> FormulaTrainer:
    trainer = FormulaTrainer(gains={structure_key(dna): gain for dna, gain in gains.items()}, noise=0.001)
    return use_trainer(trainer, monkeypatch)


def ladder_at(run: Path) -> Ladder:
    with Store.open(run, read_only=True) as store:
        return read(store)


def test_the_best_are_trained_on_every_scale_with_the_same_seeds(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worse = {library.get("TRANSFORMER", unit): -0.2 for unit in (2, 3, 4)}
    trainer = by_formula(monkeypatch, {SINE: 0.2, BRANCHED: 0.3, **worse})
    confirm(run, top=2, repeats=3, also=["TRANSFORMER"], scales=parse_scales(SCALES, config_of(run)))
    ladder = ladder_at(run)
    sizes = [(scale.layers, scale.unit, scale.budget) for scale in ladder.scales]
    assert sizes == [(1, 2, 12.0), (2, 3, 12.0), (2, 4, 24.0)]
    assert ladder.better_everywhere == ("#1",)
    unfit = ladder.at(1, "#2")
    assert unfit is not None and unfit.verdict.startswith("does not fit: ")
    assert "not a whole number" in unfit.unfit
    assert [one.programs for one in ladder.agreements] == [3, 4, 3]
    assert ladder.agreements[1].kendall_tau == pytest.approx(1.0)
    assert len(trainer.seen) == 3 * (4 + 3 + 4)
    assert len({request.seed for request in trainer.seen}) == 3
    scaled = {request.dna for request in trainer.seen if structure_key(request.dna) == structure_key(
        library.get("TRANSFORMER", 4))}  # fmt: skip
    assert len(scaled) == 1, "library programs are fitted to the width"
    json.dumps(ladder.to_dict(), allow_nan=False)


def test_a_ladder_that_was_broken_off_goes_on_where_it_stopped(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, scales = by_formula(monkeypatch, {SINE: 0.2}), parse_scales(SCALES, config_of(run))
    confirm(run, top=2, repeats=2, scales=scales)
    whole, trained = ladder_at(run), len(trainer.seen)
    confirm(run, top=2, repeats=2, scales=scales)
    assert (ladder_at(run), len(trainer.seen)) == (whole, trained)
    record = run / LOG.format(**whole.scales[1].to_dict())
    lines = record.read_text().splitlines(keepends=True)
    record.write_text("".join(lines[:-1]))  # one training was not finished
    confirm(run, top=2, repeats=2, scales=scales)
    assert len(trainer.seen) == trained + 1
    confirm(run, top=2, repeats=3, scales=scales[:1])
    assert len(trainer.seen) == trained + 1 + 3 + 2


def test_a_scale_where_the_baseline_does_not_exist_is_refused_before_anything_trains(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = by_formula(monkeypatch, {})
    with Store.open(run) as store:
        store.set_manifest({"baseline_dna": dna_to_json(BRANCHED)})
    with pytest.raises(UsageError, match="the baseline cannot be trained at a scale of 2 layers of width 24"):
        confirm(run, top=2, repeats=2, scales=parse_scales(SCALES, config_of(run)))
    assert not trainer.seen


def test_a_training_that_was_lost_is_tried_again_and_blamed_on_nobody(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, scales = by_formula(monkeypatch, {SINE: 0.2}), parse_scales(SCALES[:1], config_of(run))
    trainer.outcomes = {structure_key(SINE): "worker_lost"}
    confirm(run, top=2, repeats=2, scales=scales)
    assert {entry.result.name for results in ladder_at(run).results for entry in results} == {"baseline", "#2"}
    trainer.outcomes = {}
    confirm(run, top=2, repeats=2, scales=scales)
    ladder = ladder_at(run)
    for place in range(2):
        found = ladder.at(place, "#1")
        assert found is not None and (found.result.trainings, found.result.failed) == (2, 0)


def test_another_text_than_the_searchs_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = by_formula(monkeypatch, {})
    with Store.open(run) as store:
        store.set_manifest({"dataset_hash": "0123456789abcdef"})
    with pytest.raises(UsageError, match=r"was 0123456789ab\): restore that text"):
        confirm(run, top=1, repeats=1)
    assert not trainer.seen


def test_the_baselines_step_is_timed_anew_where_budgets_are_charged_by_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = by_formula(monkeypatch, {})
    config = config_of(run)
    timed = replace(config, trial=replace(config.trial, unit="reference_seconds", budget_seconds=5.0))
    with Store.open(run) as store:
        store.set_manifest({"config": timed.to_dict()})
        store.add_event("calibrated", {"allowance_seconds": 0.5})
    confirm(run, top=1, repeats=1, scales=parse_scales(["budget=9s", "layers=3"], timed))
    allowances = [request.allowance_seconds for request in trainer.seen if not request.calibrate]
    assert allowances == [0.5, 0.5, 0.5, 0.5, 0.02, 0.02]
    assert sum(request.calibrate for request in trainer.seen) == 1


def test_a_real_ladder_on_the_command_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["confirm", str(run), "--top", "2", "--repeats", "1", "--scale", "unit=3,budget=14", "--json"]) == 0
    ladder = json.loads(capsys.readouterr().out)["ladder"]
    own, scale = ladder["scales"]
    assert (own["width"], scale["width"], scale["budget"]) == (16, 24, 14.0)
    programs = {row["name"]: row for row in scale["programs"]}
    assert programs["#1"]["trainings"] == 1 and programs["#1"]["difference"]["low"] is None
    assert programs["#2"]["unfit"] and programs["#2"]["rank"] is None
    assert (programs["baseline"]["steps"], own["programs"][0]["steps"]) == (14, 12)
    assert programs["baseline"]["epochs"] > 0
    sizes = [
        row["test_bits_per_byte"] for rows in ladder["scales"] for row in rows["programs"] if row["name"] == "baseline"
    ]
    assert sizes[0] != sizes[1]


def test_a_wrong_scale_is_one_sentence_and_exit_two(run: Path) -> None:
    assert "did you mean layers" in refused("confirm", run, "--scale", "layer=4")


def test_a_run_with_settings_of_another_version_is_one_sentence(run: Path) -> None:
    with Store.open(run) as store:
        config = store.manifest["config"]
        config["search"]["former"] = 3
        store.set_manifest({"config": config})
    assert "search.former is not a setting" in refused("confirm", run, "--scale", "layers=2")
