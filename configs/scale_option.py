"""Parser of `--scale` of `confirm` and `train`, and of `search.scale_up`, such as `layers=4,unit=16,budget=60s`.

A scale is a copy of the run's settings with a few changes. The result is validated like all settings.
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

__all__ = ["larger_scale", "parse_scale", "parse_scales"]

_KEYS = {
    "layers": "model.layers",
    "unit": "model.unit",
    "length": "model.length",
    "batch": "trial.batch",
    "devices": "trial.devices",
    "learning_rate": "optimizer.learning_rate",
}
"""Keys of a scale besides `budget`, and the setting that each changes."""


def parse_scales(texts: Sequence[str], config: RunConfig) -> list[RunConfig]:
    """Return the settings of each scale, in the order given.

    Args:
        texts: scales as `key=value,...`; keys are those of `_KEYS` and budget.
        config: run configuration, for all other settings.

    Raises:
        UsageError: a scale is malformed, changes nothing, repeats another or has invalid settings.
    """
    own = _for_studies(config)
    scales: dict[Scale, RunConfig] = {}
    for text in texts:
        scale = _parse_scale(text, own)
        size = Scale.of(scale)
        if size == Scale.of(own):
            raise UsageError(f"--scale {text}: this is the size of the run, which is trained anyway; change a setting")
        if size in scales:
            raise UsageError(f"--scale {text}: another --scale has the same settings; leave one out")
        scales[size] = scale
    return list(scales.values())


def parse_scale(text: str, config: RunConfig) -> RunConfig:
    """Return the settings of the one scale of a training. The budget of a training is a separate option.

    Raises:
        UsageError: the scale is malformed, or has invalid settings.
    """
    return _parse_scale(text, _for_studies(config), budget=False)


def larger_scale(config: RunConfig) -> RunConfig | None:
    """Return the settings of `search.scale_up`; None if it is empty or not larger than the run's own size.

    Raises:
        UsageError: the setting is malformed, or the baseline does not exist at this size.
    """
    text, own = config.search.scale_up, config.model
    if not text:
        return None
    try:
        scale = _parse_scale(text, _for_studies(config))
        scale.model.library_program(config.search.baseline)
    except UsageError as error:
        raise UsageError(str(error).replace(f"--scale {text}", f"search.scale_up = {text}")) from None
    return scale if scale.model.layers * scale.model.unit**2 > own.layers * own.unit**2 else None


def _for_studies(config: RunConfig) -> RunConfig:
    # Studies train without hurdles, so the budget of a scale does not have to leave room for them.
    # The range of parameters is that of the run's own size.
    return replace(config, trial=replace(config.trial, hurdles=0), model=replace(config.model, parameter_range=()))


def _parse_scale(text: str, config: RunConfig, budget: bool = True) -> RunConfig:
    known, overrides, seen = (*_KEYS, *(("budget",) if budget else ())), [], set()
    for part in text.split(","):
        key, equals, value = (word.strip() for word in part.partition("="))
        if not (equals and key and value):
            raise UsageError(f"--scale {text[:60]!r} must read key=value,..., for example layers=4,unit=16,budget=60s")
        if key not in known:
            raise UsageError(f"--scale {text}: {key!r} is not one of {', '.join(known)}{did_you_mean(key, known, '')}")
        if key in seen:
            raise UsageError(f"--scale {text}: {key} is given twice")
        seen.add(key)
        setting, read = _budget(text, value, config) if key == "budget" else (_KEYS[key], parse_value(value))
        overrides.append(f"{setting}={json.dumps(read)}")
    try:
        return loads(dump(config), "the run", overrides)
    except UsageError as error:
        why = str(error).replace(" (from --set)", "").replace(" (in the run and --set)", "")
        raise UsageError(f"--scale {text}: {why}") from None


def _budget(text: str, value: str, config: RunConfig) -> tuple[str, Any]:
    """Return the setting that holds a run's budget, and its value."""
    if config.trial.unit == "steps":
        if not value.isdecimal():
            raise UsageError(f"--scale {text}: the run counts steps: write budget=N with a whole number of steps")
        return "trial.budget_steps", int(value)
    try:
        return "trial.budget_seconds", parse_duration(value)
    except UsageError as error:
        raise UsageError(f"--scale {text}: budget: {error}") from None
