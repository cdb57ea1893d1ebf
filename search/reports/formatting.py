"""Numbers, estimates and budgets as text, for the console and the pages."""

from __future__ import annotations

from ...system.plurals import pluralize
from ...workers.config import TrialConfig
from ..config import RunConfig
from ..results.statistics import Estimate

__all__ = [
    "BUDGET_UNITS",
    "LOSS_UNITS",
    "format_budget",
    "format_count",
    "format_estimate",
    "format_number",
    "format_trainings",
]

BUDGET_UNITS = {
    "reference_seconds": "reference seconds",
    "cpu_seconds": "CPU seconds",
    "wall_seconds": "seconds of wall clock",
    "steps": "steps",
}
"""Names of the units of a trial's budget."""

LOSS_UNITS = {"bits/byte": "bits per byte", "nats": "nats per token"}
"""Names of the units of a loss. Token ids without text have no bytes, so their losses are in nats."""


def format_number(value: float | None, form: str = ".4f") -> str:
    """Format a number; None becomes a dash."""
    return "–" if value is None else format(value, form)


def format_count(value: int | None) -> str:
    """Format an integer with separators of thousands; None becomes a dash."""
    return format_number(value, ",")


def format_estimate(estimate: Estimate | None, form: str = "+.4f") -> str:
    """Format a mean and half the width of its interval; None becomes a dash."""
    if estimate is None:
        return "–"
    half = "" if estimate.half_width is None else f" ± {estimate.half_width:.4f}"
    return format(estimate.mean, form) + half


def format_budget(trial: TrialConfig) -> str:
    """Format the budget of one training."""
    return f"{trial.budget:g} {BUDGET_UNITS[trial.unit]}"


def format_trainings(config: RunConfig, repeats: int, device: str) -> str:
    """Format how the programs of a study were trained: budget, repeats, text and device."""
    return (
        f"{format_budget(config.trial)} of training each, {pluralize(repeats, 'repeat')}, {config.data.source}, "
        f"on {device or 'no device'}"
    )
