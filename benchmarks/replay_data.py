"""The tape as arrays: losses during and at the end of trainings, seconds, prices and parents of all children.

The final loss is the loss at the budget, the last of `record_tape.POINTS`. Trainings on the tape are longer by a tenth.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from primer_search.benchmarks.record_tape import POINTS, SHARES, Entry, edit_sets

__all__ = ["NOISE_SD", "Children", "children_of", "parts_of_merges", "read_entries", "true_losses"]

NOISE_SD = 0.016
"""Standard deviation of a final loss between random seeds, in nats; replays add it, and `true_losses` removes it."""


@dataclass(frozen=True, slots=True)
class Children:
    """Children of the tape, in the order of their trainings.

    Attributes:
        names: ids in the tape.
        kinds: `live`, `paper` or `merge`.
        parents: index of the first parent; -1 for the baseline.
        losses: [child, point] losses in nats at the shares `POINTS` of the budget; NaN after a failure.
        training: [child, point] mean training losses in nats over the last quarter of the steps before each point.
        compile_seconds: seconds of compilation.
        train_seconds: seconds of training to the budget, or to the failure.
        counts: [child, 3] operation counts of the step.
        prices: relative step times, from entries of kind `price` if the tape has any; NaN without a timing.
        baseline: median loss of the baseline's trainings, or of the children if the tape has no training of it.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    parents: np.ndarray
    losses: np.ndarray
    training: np.ndarray
    compile_seconds: np.ndarray
    train_seconds: np.ndarray
    counts: np.ndarray
    prices: np.ndarray
    baseline: float

    @property
    def finals(self) -> np.ndarray:
        """Losses at the budget; NaN for failures."""
        return self.losses[:, -1]

    @property
    def finished(self) -> np.ndarray:
        """Mask of the children that trained to the budget."""
        return np.isfinite(self.finals)


def read_entries(paths: Iterable[Path]) -> list[Entry]:
    """Read tapes: files of JSON lines, also compressed (`.gz`)."""
    entries = []
    for path in paths:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            entries += [Entry(**json.loads(line)) for line in file if line.strip()]
    return entries


def children_of(entries: Sequence[Entry], baseline: str) -> Children:
    """Return the children among the entries.

    Args:
        entries: lines of the tape.
        baseline: name of the library program from which all children descend, such as `TRANSFORMER/2`.
    """
    children = [entry for entry in entries if entry.kind in SHARES]
    places = {entry.name: place for place, entry in enumerate(children)}
    results = [entry.evaluation for entry in children]
    losses = np.array([_losses(entry) for entry in children]).reshape(-1, len(POINTS))
    roots = [_losses(entry)[-1] for entry in entries if entry.kind == "library" and entry.name == baseline]
    timed = {entry.name: entry.evaluation["relative_step"] for entry in entries if entry.kind == "price"}
    counts = [(each["step_flops"], each["step_bytes"], each["step_transcendentals"]) for each in results]
    return Children(
        names=tuple(places),
        kinds=tuple(entry.kind for entry in children),
        parents=np.array([places.get(entry.parents[0], -1) if entry.parents else -1 for entry in children], int),
        losses=losses,
        training=np.array([_training_losses(entry) for entry in children]).reshape(-1, len(POINTS)),
        compile_seconds=np.array([each["compile_seconds"] for each in results]),
        train_seconds=np.array([_seconds_to_budget(entry) for entry in children]),
        counts=np.array(counts, float).reshape(-1, 3),
        prices=np.array([timed.get(e.name) or e.evaluation["relative_step"] or np.nan for e in children], float),
        baseline=_baseline(roots or losses[:, -1].tolist()),
    )


def true_losses(finals: np.ndarray, noise_sd: float) -> np.ndarray:
    """Return posterior means of final losses: losses of the better half are shrunk towards the median.

    The worse half has a long tail, which says nothing about the spread of the better half. So the variance of true
    losses is that of the better half: the mean square of its distances to the median, minus the noise's variance.
    """
    centre = np.nanmedian(finals)
    better = finals < centre
    spread = float(np.mean((finals[better] - centre) ** 2)) if better.any() else 0.0
    share = max(0.0, 1.0 - noise_sd**2 / spread) if spread else 1.0
    return np.where(better, centre + share * (finals - centre), finals)


def parts_of_merges(
    entries: Sequence[Entry], values: Mapping[str, np.ndarray], baseline: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the values of merges if the values of their parts added up; only merges whose shared edits were trained.

    Args:
        entries: children of the tape.
        values: values of each child by name.
        baseline: values of the baseline.
    """
    edits = edit_sets(entries)
    holders = {edits[name]: each for name, each in values.items()} | {frozenset(): baseline}
    sums = {}
    for entry in entries:
        if entry.kind == "merge":
            one, other = entry.parents
            shared = holders.get(edits[one] & edits[other])
            if shared is not None and np.isfinite(total := values[one] + values[other] - shared).all():
                sums[entry.name] = total
    return sums


def _baseline(finals: Sequence[float]) -> float:
    """Return the median of the finite losses; NaN without one."""
    finite = [final for final in finals if np.isfinite(final)]
    return float(np.median(finite)) if finite else float("nan")


def _losses(entry: Entry) -> list[float]:
    """Return the losses at all points; NaN at points that the training did not reach."""
    losses = entry.evaluation["hurdle_losses"][: len(POINTS)]
    failed = entry.evaluation["outcome"] != "ok"
    return [*losses, *[np.nan] * (len(POINTS) - len(losses))][: len(POINTS) - failed] + [np.nan] * failed


def _training_losses(entry: Entry) -> list[float]:
    """Return the mean training losses before all points; NaN at points that the training did not reach."""
    curve, reached = entry.evaluation["curve"], len(entry.evaluation["hurdle_losses"])
    steps = entry.evaluation["hurdle_steps"][: min(reached, len(POINTS))]
    windows = [[loss for _, step, loss in curve if 0.75 * end < step <= end] for end in steps]
    means = [float(np.mean(window)) if window else np.nan for window in windows]
    return means + [np.nan] * (len(POINTS) - len(means))


def _seconds_to_budget(entry: Entry) -> float:
    """Return the seconds of training to the last point; all seconds of a failure."""
    steps, reached = entry.evaluation["hurdle_steps"], entry.evaluation["steps"]
    share = steps[-1] / reached if entry.evaluation["outcome"] == "ok" else 1.0
    return entry.evaluation["train_seconds"] * share
