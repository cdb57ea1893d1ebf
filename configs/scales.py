"""The rungs of a ladder of scales, as `confirm --rung` writes them: `layers=4,unit=16,budget=60s`.

A rung is the run's settings with a few of them changed, and is validated as they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..primitives.errors import UsageError
from ..primitives.suggestions import did_you_mean
from ..search.config import RunConfig
from ..search.results.scale_ladder import Rung
from ..system.durations import parse_duration
from .load import dump, loads
from .overrides import parse_value

__all__ = ["rungs_of"]

_KEYS = {
    "layers": "model.layers",
    "unit": "model.unit",
    "length": "model.length",
    "batch": "trial.batch",
    "devices": "trial.devices",
    "learning_rate": "optimizer.learning_rate",
}
"""What a rung may change, and the setting it is; besides these the budget."""


def rungs_of(texts: Sequence[str], config: RunConfig) -> list[RunConfig]:
    """The settings of each rung, in the order given.

    Args:
        texts: `key=value,...` each; keys are layers, unit, length, batch, devices, learning_rate and budget.
        config: of the run, which says what is left out.

    Raises:
        UsageError: a rung that is none, changes nothing, or stands there twice; settings out of bounds or at odds.
    """
    # No training of a study is stopped at a hurdle, so none need fit into the budget of a rung.
    own = replace(config, trial=replace(config.trial, hurdles=0))
    rungs: dict[Rung, RunConfig] = {}
    for text in texts:
        rung = _rung_of(text, own)
        size = Rung.of(rung)
        if size == Rung.of(own):
            raise UsageError(f"--rung {text}: that is the run's own size, which is trained anyway: change a setting.")
        if size in rungs:
            raise UsageError(f"--rung {text}: another --rung says the same.")
        rungs[size] = rung
    return list(rungs.values())


def _rung_of(text: str, config: RunConfig) -> RunConfig:
    known, overrides, seen = (*_KEYS, "budget"), [], set()
    for part in text.split(","):
        key, equals, value = (word.strip() for word in part.partition("="))
        if not (equals and key and value):
            raise UsageError(f"--rung {text[:60]!r} must read key=value,..., for example layers=4,unit=16,budget=60s")
        if key not in known:
            raise UsageError(f"--rung {text}: {key!r} is none of {', '.join(known)}{did_you_mean(key, known, '')}")
        if key in seen:
            raise UsageError(f"--rung {text}: {key} stands there twice")
        seen.add(key)
        setting, read = _budget(text, value, config) if key == "budget" else (_KEYS[key], parse_value(value))
        overrides.append(f"{setting}={json.dumps(read)}")
    try:
        return loads(dump(config), "the run", overrides)
    except UsageError as error:
        why = str(error).replace(" (from --set)", "").replace(" (in the run and --set)", "")
        raise UsageError(f"--rung {text}: {why}") from None


def _budget(text: str, value: str, config: RunConfig) -> tuple[str, Any]:
    """The setting that a run's budget is, and its value."""
    if config.trial.unit == "steps":
        if not value.isdecimal():
            raise UsageError(f"--rung {text}: the run counts steps: write budget=N, a whole number of them")
        return "trial.budget_steps", int(value)
    try:
        return "trial.budget_seconds", parse_duration(value)
    except UsageError as error:
        raise UsageError(f"--rung {text}: budget: {error}") from None
