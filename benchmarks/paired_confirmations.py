"""Confirmed programs of a run, compared in pairs with the baseline and with one other program.

    python benchmarks/paired_confirmations.py RUN [--against PRIMER_EZ] [--json]

It reads the trainings of `primer-search confirm RUN --also ... --scale ...`. Differences are in bits a byte of the
test text (negative is better), paired by random seed, at equal steps and at equal time, at every size. Each has its own
95% t interval. The leaderboard's intervals are wider, because they are corrected for the number of programs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser
from primer_search.primitives.errors import UsageError
from primer_search.search.results.confirmation import Retraining, bits_by_view, read_retraining
from primer_search.search.results.scale_ladder import Scale
from primer_search.search.results.statistics import Estimate, paired_differences
from primer_search.search.runs.store import Store


@dataclass(frozen=True, slots=True)
class Pair:
    """One program at one size in one view.

    Attributes:
        size: layers, width and budget.
        view: `equal steps` or `equal time`.
        program: name of the program.
        trainings: trainings with a loss.
        bits_per_byte: mean on the test text.
        price: mean step time, relative to the baseline's; None if steps are not timed.
        to_baseline, to_other: bits a byte minus those of the baseline, and minus those of the other program.
    """

    size: str
    view: str
    program: str
    trainings: int
    bits_per_byte: float
    price: float | None
    to_baseline: Estimate | None
    to_other: Estimate | None


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    options = _options(arguments)
    pairs = [
        pair for size, found in _retrainings(options.run).items() for pair in _compare(size, found, options.against)
    ]
    if options.json:
        print(json.dumps({"against": options.against, "pairs": [asdict(pair) for pair in pairs]}))
        return
    print(f"{'':24} {'bits/byte':>9} {'price':>6}  {'to the baseline':28} to {options.against}")
    heading = None
    for pair in pairs:
        if (pair.size, pair.view) != heading:
            heading = pair.size, pair.view
            print(f"{pair.size}, at {pair.view}")
        label = f"  {pair.program} ({pair.trainings} seeds)"
        price = "" if pair.price is None else f"{pair.price:.2f}"
        columns = f"{_text(pair.to_baseline):28} {_text(pair.to_other)}"
        print(f"{label:24} {pair.bits_per_byte:9.4f} {price:>6}  {columns}".rstrip())


def _retrainings(run: str) -> dict[str, list[Retraining]]:
    """Return the retrainings by size, the run's own size first; a training that was recorded twice counts once."""
    sizes: dict[str, dict[tuple[str, int], Retraining]] = {}
    with Store.open(run, read_only=True) as store:
        for event in store.events():
            if event.kind in ("confirmed", "retrained_at_scale"):
                at_scale = event.kind == "retrained_at_scale"
                size = Scale(**event.payload["scale"]).label if at_scale else "the run's own size"
                each = read_retraining(event)
                sizes.setdefault(size, {})[each.name, each.seed] = each
    return {size: list(found.values()) for size, found in sizes.items()}


def _compare(size: str, found: Sequence[Retraining], other: str) -> list[Pair]:
    """Return all programs at one size in both views, in order of their first training."""
    programs = {
        name: [each for each in found if each.name == name] for name in dict.fromkeys(one.name for one in found)
    }
    if "baseline" not in programs or other not in programs:
        raise UsageError(f"the baseline or {other} was not retrained at {size}: use `confirm RUN --also {other}`")
    pairs = []
    for view, losses in bits_by_view(programs).items():
        for name, values in losses.items():
            if not values:
                continue
            prices = [each.evaluation.relative_step for each in programs[name] if each.evaluation.relative_step]
            pairs.append(
                Pair(
                    size,
                    view,
                    name,
                    len(values),
                    fmean(values.values()),
                    fmean(prices) if prices else None,
                    _difference(losses, name, "baseline"),
                    _difference(losses, name, other),
                )
            )
    return pairs


def _difference(losses: dict[str, dict[int, float]], name: str, other: str) -> Estimate | None:
    if name == other:
        return None
    return paired_differences({name: losses[name], other: losses[other]}, other).get(name)


def _text(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:+.4f}"
    return f"{estimate.mean:+.4f} ({estimate.low:+.4f} to {estimate.high:+.4f})"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("run", metavar="RUN", help="name or path of a confirmed run")
    parser.add_argument("--against", default="PRIMER_EZ", help="the other program (default PRIMER_EZ)")
    add_json(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
