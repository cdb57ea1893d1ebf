"""Shares of mutations that paid in guided searches, by the family of the op that they add and by their kind.

    python benchmarks/paying_edits.py RUN [RUN ...] [--least 0.03] [--json]

A mutation paid if its child was trained to the end and its fitness (nats, the worse of equal steps and equal time) is
better than its parent's by `--least`. Children that were stopped, rejected or diverged did not pay. Merges and reverts
are not counted.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser
from primer_search.primitives.ops.op_table import OPS
from primer_search.search.guided.measurements import Measurements
from primer_search.search.guided.stop_rule import POINTS
from primer_search.search.runs.store import Store


@dataclass(frozen=True, slots=True)
class Edit:
    """One mutation.

    Attributes:
        kind: first word of its description, such as `Insert`.
        family: family of the first op that it adds; `call` for a subprogram, `none` if it adds nothing.
        paid: whether it paid.
    """

    kind: str
    family: str
    paid: bool


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the counts and shares."""
    options = _options(arguments)
    edits = [edit for run in options.runs for edit in _edits(run, options.least)]
    counts = {name: _count(edits, name) for name in ("family", "kind")}
    paid = sum(edit.paid for edit in edits)
    if options.json:
        print(json.dumps({"mutations": len(edits), "paid": paid, **counts, "edits": [asdict(edit) for edit in edits]}))
        return
    print(f"{paid} of {len(edits)} mutations paid {options.least:g} nats or more")
    for name, table in counts.items():
        print(f"\n{name:24} {'mutations':>9} {'paid':>5} {'share':>6}")
        for value, (number, good) in table.items():
            print(f"{value:24} {number:9} {good:5} {good / number:6.1%}")


def _edits(run: str, least: float) -> Iterator[Edit]:
    with Store.open(run, read_only=True) as store:
        candidates, finished = store.candidates(), store.evaluations()
    measured = Measurements(POINTS)
    for trial in finished:
        measured.record(trial.candidate_id, trial.evaluation)
    tried = set(measured.candidates)
    for candidate in candidates:
        description = candidate.mutations[0] if len(candidate.mutations) == 1 else ""
        if candidate.parent is None or candidate.id not in tried or not description:
            continue
        if description.startswith(("Merge", "Revert")):
            continue
        kind = re.split(r" in |: ", description)[0]
        own, parent = _fitness(measured, candidate.id), _fitness(measured, candidate.parent)
        paid = own is not None and parent is not None and parent - own >= least
        yield Edit(kind, _family(kind, description), paid)


def _fitness(measured: Measurements, number: int) -> float | None:
    """Return the mean loss of the trainings that reached their end, plus the price of a step; None without one."""
    losses = measured.losses(number)
    return fmean(losses) + measured.priced(number).mean if losses else None


def _family(kind: str, description: str) -> str:
    if kind not in ("Insert", "Wrap", "Replace op"):
        return "none"
    added = re.findall(r"x\d+ = (\w+)\(", description.rpartition(" becomes ")[2])
    return OPS[added[0]].family if added and added[0] in OPS else "call"


def _count(edits: Sequence[Edit], name: str) -> dict[str, tuple[int, int]]:
    """Return mutations and paying mutations by the values of an attribute, the most frequent first."""
    tried = Counter(getattr(edit, name) for edit in edits)
    paid = Counter(getattr(edit, name) for edit in edits if edit.paid)
    return {value: (count, paid[value]) for value, count in tried.most_common()}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="names or paths of guided runs")
    parser.add_argument("--least", type=float, default=0.03, help="smallest gain that counts, in nats (default 0.03)")
    add_json(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
