"""Budget of one training, in steps or in wall-clock time."""

from __future__ import annotations

import re
from dataclasses import replace

from ...primitives import UsageError
from ...system.durations import parse_duration
from ...workers.config import TrialConfig

__all__ = ["apply_budget", "without_reference"]


def apply_budget(trial: TrialConfig, text: str) -> TrialConfig:
    """Return the settings with another budget. Its unit may differ from the search's.

    The result is not compared with trials of a search, so no price is measured and there are no hurdles.

    Args:
        trial: settings of a trial.
        text: value of `--budget`: wall-clock time of training such as `1h`, or steps such as `5000steps`.

    Raises:
        UsageError: the text is neither a duration nor a number of steps.

    >>> apply_budget(TrialConfig(), "5000steps").budget, apply_budget(TrialConfig(unit="steps"), "1h").budget
    (5000.0, 3600.0)
    """
    if steps := re.fullmatch(r"\s*([1-9][0-9]{0,9})\s*steps?\s*", text):
        return replace(trial, unit="steps", budget_steps=int(steps[1]), price=False, hurdles=0)
    try:
        seconds = parse_duration(text)
    except UsageError as error:
        raise UsageError(f"--budget: {error}, or a number of steps: 5000steps") from None
    return replace(trial, unit="wall_seconds", budget_seconds=seconds, price=False, hurdles=0)


def without_reference(trial: TrialConfig) -> TrialConfig:
    """Return the settings without timings of the baseline's step; reference seconds become wall-clock seconds."""
    unit = "wall_seconds" if trial.unit == "reference_seconds" else trial.unit
    return replace(trial, unit=unit, price=False, hurdles=0)
