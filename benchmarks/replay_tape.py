"""Tables from the tape: edits that pay, prediction of final losses and of prices, noise, and rules that stop trainings.

    OPENBLAS_NUM_THREADS=1 python benchmarks/replay_tape.py TAPE.jsonl [MORE.jsonl.gz ...] [--replays 200] [--json]

It reads tapes of `record_tape.py` and does not train. Give a tape of library trainings in addition to the tape of
children: it has the baseline's loss and the noise between random seeds. The tables take about a minute.
`replay_searches.py` replays whole searches.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser
from primer_search.benchmarks.replay_data import NOISE_SD, Children, children_of, read_entries
from primer_search.benchmarks.replay_edits import edit_rows
from primer_search.benchmarks.replay_hurdles import RULES, TODAY, compare, draw, replay
from primer_search.benchmarks.replay_noise import price_fit, seed_noise
from primer_search.benchmarks.replay_prediction import prediction_rows

__all__ = ["main"]

MOST_CHILDREN_PER_SECOND = 0.2
"""Largest number of children per second of a replay: a compilation takes some seconds, so no rule trains more."""

SENTENCES = {
    "prediction": (
        "Prediction of the final loss at each point by the search's own model, leave one out. tau: Kendall's rank "
        "correlation; error, median error: root mean square and median absolute, in nats; within: share of final "
        "losses within one predicted sd (0.68 if calibrated); below: share below the predicted 10% quantile. The "
        "better half is chosen by the final loss, so its losses lie lower than predicted. training loss: mean over the "
        "last quarter of the steps, which needs no evaluation."
    ),
    "price": (
        "Price of a step: the log of its time relative to the baseline's, by a linear model of the logs of XLA's "
        "operation counts, leave one out. The error is that of model and timing together; if it is much larger than "
        "the median error, a few timings were disturbed, or a few programs are unusual."
    ),
    "noise": (
        "Noise of the final loss between random seeds, pooled over programs with several trainings. drift: later "
        "trainings minus the first; it is positive if programs are repeated because the first was good."
    ),
    "hurdles": (
        "Rules that stop trainings, at equal core-seconds. gain: true gain of the named child over the baseline, in "
        "nats; better, worse: shares of replays that name a truly better or worse child than today's rule; seen: "
        "children trained; good: true loss in the best tenth of the tape; more good: good children trained to the end, "
        "compared with today's rule, and its sd between replays. A child of a good parent may be good and still miss "
        "the parent's loss, which counts against rules with the target `parent`."
    ),
    "edits": (
        "Mutations whose child is better than its parent by 0.03 nats or more, at equal steps, at equal time, and in "
        "both views; best: largest gain in the worse view, in nats."
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or one JSON object."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("tapes", type=Path, nargs="+", help="files of JSON lines, also compressed (.gz)")
    parser.add_argument("--baseline", default="TRANSFORMER/2", help="library program that the children come from")
    parser.add_argument("--seconds", type=float, default=1800, help="core-seconds of a replay (default 1800)")
    parser.add_argument("--replays", type=int, default=200, help="replays of each rule (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the replays (default 0)")
    add_json(parser)
    chosen = parser.parse_args(arguments)
    entries = read_entries(chosen.tapes)
    children = children_of(entries, chosen.baseline)
    if children.finished.sum() < 3:
        sys.exit(f"{chosen.tapes[0]} has {children.finished.sum()} finished children: record at least 3")
    tables: dict[str, Sequence[Any]] = {
        "prediction": prediction_rows(children.losses[children.finished], children.training[children.finished]),
        "price": [price_fit(children.counts, children.prices)],
        "noise": seed_noise(entries),
        "hurdles": hurdle_rows(children, chosen.replays, chosen.seconds, chosen.seed),
        "edits": edit_rows(entries, children),
    }
    about = _about(children, chosen.seconds, chosen.replays)
    rows = {name: [dataclasses.asdict(row) for row in table] for name, table in tables.items()}
    if chosen.json:
        print(json.dumps({"about": about, **rows}))
        return
    print(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in about.items()))
    for name, table in rows.items():
        print(f"\n{SENTENCES[name]}\n\n{text_table(table)}" if table else f"\n{name}: the tape has too few entries.")


def hurdle_rows(children: Children, replays: int, seconds: float, seed: int) -> list[Any]:
    """Replay all rules on the same draws, and compare each with today's rule."""
    draws = draw(children, replays, int(seconds * MOST_CHILDREN_PER_SECOND) + 1, seed)
    today = replay(TODAY, children, draws, seconds)
    return [compare(rule, replay(rule, children, draws, seconds), today, children.baseline) for rule in RULES]


def text_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as a plain table with a header.

    >>> print(text_table([{"rule": "none", "more_good": 0.25}]))
    rule  more good
    none      0.250
    """
    cells = [[name.replace("_", " ") for name in rows[0]], *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [not isinstance(value, str) for value in rows[0].values()]
    return "\n".join(_line(line, widths, numeric) for line in cells)


def _line(cells: Iterable[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    padded = (
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, numeric, strict=True)
    )
    return "  ".join(padded).rstrip()


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_text, value))
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _about(children: Children, seconds: float, replays: int) -> dict[str, Any]:
    finals = children.finals[children.finished]
    cost = children.compile_seconds + children.train_seconds
    return {
        "children": len(children.names),
        "finished": int(children.finished.sum()),
        "baseline_loss": round(children.baseline, 4),
        "best_loss": round(float(finals.min()), 4),
        "median_loss": round(float(np.median(finals)), 4),
        "seconds_per_child": round(float(cost.mean()), 1),
        "share_of_compilation": round(float(children.compile_seconds.sum() / cost.sum()), 2),
        "noise_sd": NOISE_SD,
        "replays": replays,
        "core_seconds": seconds,
    }


if __name__ == "__main__":
    main()
