"""Distil the tape into the recorded trainings that `primer-search simulate` draws from.

    python benchmarks/distill_tape.py search/simulation/recorded_trainings.json

The tape (benchmarks/results/tape.jsonl.gz) has programs and complete evaluations. The file in the package has only what
a simulated training needs: losses during training, the change from the parent (for a merge: its gain minus the sum of
its parts), the price, and the seconds spent outside of training. Gains are converted to sums of effects
(`sum_of_effects`), which add up. Until the first evaluation, at 5% of the budget, losses are those of the training
curve. True losses come from `replay_data.true_losses`, which corrects the best for luck.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from primer_search.benchmarks.record_tape import POINTS, SHARES, Entry
from primer_search.benchmarks.replay_data import NOISE_SD, children_of, parts_of_merges, read_entries, true_losses
from primer_search.search.simulation.true_programs import sum_of_effects

TAPES = ("tape.jsonl.gz",)
BASELINE = "TRANSFORMER/2"
BUDGET_STEPS = 1000
STEP = ("step_ms", "step_flops", "step_bytes", "step_transcendentals")
PHASES = ("compile", "probe", "evaluate")


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="file to write")
    output = parser.parse_args().output
    results = Path(__file__).parent / "results"
    output.write_text(distil(read_entries([results / name for name in TAPES])), encoding="utf-8")


def distil(entries: Sequence[Entry]) -> str:
    """Return the JSON text of the recorded trainings."""
    tape = [entry for entry in entries if entry.kind in SHARES]
    roots = [entry.evaluation for entry in entries if entry.kind == "library" and entry.name == BASELINE]
    children = children_of(entries, BASELINE)
    true = true_losses(children.finals, NOISE_SD)
    prices = np.log(np.where(np.isfinite(children.prices), children.prices, 1.0))
    trainings = [_training("baseline", root, 0.0, 0.0, 0.0) for root in roots]
    gains = children.baseline - true
    totals = np.stack([[sum_of_effects(gain) for gain in gains], prices], axis=1)
    sums = parts_of_merges(tape, dict(zip(children.names, totals, strict=True)), np.zeros(2))
    for place, entry in enumerate(tape):
        parent = int(children.parents[place])
        gain, before = (0.0, np.zeros(2)) if parent < 0 else (gains[parent], totals[parent])
        kind = entry.kind
        if kind == "merge":
            kind, before = ("merge", sums[entry.name]) if entry.name in sums else ("other", np.full(2, np.nan))
        trainings.append(_training(kind, entry.evaluation, gain, *(totals[place] - before)))
    baseline = {"baseline_loss": _rounded(children.baseline)}
    baseline |= {name: _rounded(float(np.median([root[name] for root in roots]))) for name in STEP}
    lines = ",\n".join(json.dumps(each, allow_nan=False) for each in trainings)
    return f'{{"baseline": {json.dumps(baseline)},\n"trainings": [\n{lines}\n]}}\n'


def _training(
    kind: str, evaluation: dict[str, Any], parent_gain: float, effect: float, log_price_change: float
) -> dict[str, Any]:
    """Return the JSON values of a `RecordedTraining`."""
    ok, budget = evaluation["outcome"] == "ok", BUDGET_STEPS
    early = [(steps / budget, loss) for _, steps, loss in evaluation["curve"] if steps < POINTS[0] * budget]
    later = list(zip(POINTS, evaluation["hurdle_losses"], strict=False))
    points = [*early, *later] if ok else []
    return {
        "kind": kind,
        "outcome": evaluation["outcome"],
        "parent_gain": _rounded(parent_gain),
        "effect": _rounded(effect),
        "log_price_change": _rounded(log_price_change),
        "reached": 1.0 if ok else _rounded(min(1.0, evaluation["steps"] / budget)),
        "shares": [_rounded(share) for share, _ in points],
        "losses": [_rounded(loss) for _, loss in points],
        **{f"{phase}_seconds": _rounded(evaluation[f"{phase}_seconds"]) for phase in PHASES},
    }


def _rounded(value: float) -> float | None:
    return round(float(value), 5) if math.isfinite(value) else None


if __name__ == "__main__":
    sys.exit(main())
