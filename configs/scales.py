"""The scales of a ladder of scales, as `confirm --scale` writes them: `layers=4,unit=16,budget=60s`.

A scale is the run's settings with a few of them changed, and is validated as they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..primitives.errors import UsageError
from ..primitives.suggestions import did_you_mean
from ..search.config import RunConfig
from ..search.results.scale_ladder import Scale
from ..system.durations import parse_duration
from .load import dump, loads
from .overrides import parse_value

__all__ = ["parse_scales"]

_KEYS = {
    "layers": "model.layers",
    "unit": "model.unit",
    "length": "model.length",
    "batch": "trial.batch",
    "devices": "trial.devices",
    "learning_rate": "optimizer.learning_rate",
}
"""What a scale may change, and the setting it is; besides these the budget."""


def parse_scales(texts: Sequence[str], config: RunConfig) -> list[RunConfig]:
    """The settings of each scale, in the order given.

    Args:
        texts: `key=value,...` each; keys are layers, unit, length, batch, devices, learning_rate and budget.
        config: of the run, which says what is left out.

    Raises:
        UsageError: a scale that is none, changes nothing, or stands there twice; settings out of bounds or at odds.
    """
    # No training of a study is stopped at a hurdle, so none need fit into the budget of a scale.
    own = replace(config, trial=replace(config.trial, hurdles=0))
    scales: dict[Scale, RunConfig] = {}
    for text in texts:
        scale = _parse_scale(text, own)
        size = Scale.of(scale)
        if size == Scale.of(own):
            raise UsageError(f"--scale {text}: that is the run's own size, which is trained anyway: change a setting.")
        if size in scales:
            raise UsageError(f"--scale {text}: another --scale says the same.")
        scales[size] = scale
    return list(scales.values())


def _parse_scale(text: str, config: RunConfig) -> RunConfig:
    known, overrides, seen = (*_KEYS, "budget"), [], set()
    for part in text.split(","):
        key, equals, value = (word.strip() for word in part.partition("="))
        if not (equals and key and value):
            raise UsageError(f"--scale {text[:60]!r} must read key=value,..., for example layers=4,unit=16,budget=60s")
        if key not in known:
            raise UsageError(f"--scale {text}: {key!r} is none of {', '.join(known)}{did_you_mean(key, known, '')}")
        if key in seen:
            raise UsageError(f"--scale {text}: {key} stands there twice")
        seen.add(key)
        setting, read = _budget(text, value, config) if key == "budget" else (_KEYS[key], parse_value(value))
        overrides.append(f"{setting}={json.dumps(read)}")
    try:
        return loads(dump(config), "the run", overrides)
    except UsageError as error:
        why = str(error).replace(" (from --set)", "").replace(" (in the run and --set)", "")
        raise UsageError(f"--scale {text}: {why}") from None


def _budget(text: str, value: str, config: RunConfig) -> tuple[str, Any]:
    """The setting that a run's budget is, and its value."""
    if config.trial.unit == "steps":
        if not value.isdecimal():
            raise UsageError(f"--scale {text}: the run counts steps: write budget=N, a whole number of them")
        return "trial.budget_steps", int(value)
    try:
        return "trial.budget_seconds", parse_duration(value)
    except UsageError as error:
        raise UsageError(f"--scale {text}: budget: {error}") from None
