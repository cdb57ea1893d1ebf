"""Shares of the tape's mutations that pay, by origin, kind of edit and added ops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from primer_search.benchmarks.record_tape import SHARES, Entry
from primer_search.benchmarks.replay_data import NOISE_SD, Children, true_losses
from primer_search.search.simulation.found_program import PAYING_GAIN
from primer_search.search.simulation.true_programs import PRICE_SLOPE

__all__ = ["EditRow", "edit_rows"]

ADDING = ("Insert", "Wrap", "Replace")
"""Live edits that can add an op."""


@dataclass(frozen=True, slots=True)
class EditRow:
    """Mutations of one kind.

    Attributes:
        mutations: kind of mutations.
        children: number of their children on the tape.
        in_steps, in_time, in_both: children that are better than their parent by `PAYING_GAIN` or more at equal steps,
            at equal time, and in both views.
        best: largest gain over the parent in the worse view, in nats.
    """

    mutations: str
    children: int
    in_steps: int
    in_time: int
    in_both: int
    best: float


def edit_rows(entries: Sequence[Entry], children: Children) -> list[EditRow]:
    """Return a row for each kind of mutations. Losses are shrunk as in `true_losses`; failures have no gain."""
    tape = [entry for entry in entries if entry.kind in SHARES]
    losses = true_losses(children.finals, NOISE_SD)
    prices = PRICE_SLOPE * np.log(np.where(np.isfinite(children.prices), children.prices, 1.0))
    parents, has_parent = children.parents, children.parents >= 0
    steps = np.where(has_parent, losses[parents], children.baseline) - losses
    time = steps + np.where(has_parent, prices[parents], 0.0) - prices
    gains = np.nan_to_num(np.stack([steps, time]), nan=-np.inf, neginf=-np.inf)
    kinds: dict[str, Callable[[Entry], bool]] = {
        "the paper's": lambda entry: entry.kind == "paper",
        "live": lambda entry: entry.kind == "live",
        "live: insertions and wraps": lambda entry: _adds(entry, ADDING[:2]),
        "live: others": lambda entry: entry.kind == "live" and not _adds(entry, ADDING[:2]),
        "live: add a depthwise convolution": lambda entry: _adds(entry, ADDING) and _convolves(entry),
        "live: others, of all kinds": lambda entry: (
            entry.kind == "live" and not (_adds(entry, ADDING) and _convolves(entry))
        ),
    }
    return [_row(name, gains[:, [chosen(entry) for entry in tape]]) for name, chosen in kinds.items()]


def _adds(entry: Entry, edits: tuple[str, ...]) -> bool:
    return entry.kind == "live" and entry.mutations[0].startswith(edits)


def _convolves(entry: Entry) -> bool:
    return "DCONV" in entry.mutations[0].split(" becomes ")[-1]


def _row(name: str, gains: np.ndarray) -> EditRow:
    in_steps, in_time = gains >= PAYING_GAIN
    both = gains.min(axis=0)
    return EditRow(
        name,
        len(both),
        int(in_steps.sum()),
        int(in_time.sum()),
        int((both >= PAYING_GAIN).sum()),
        float(both.max(initial=-np.inf)),
    )
