"""Presets and configuration files: read from TOML, validated, and returned as a `RunConfig`.

A file holds one table for each section of `RunConfig` (`[model]`, `[trial]`, ...). Missing settings take the defaults
of the dataclasses, which also define types and bounds. pydantic checks these in JSON mode, because its strict Python
mode refuses dicts for dataclasses.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from ..primitives.errors import UsageError
from ..primitives.suggestions import did_you_mean
from ..search.config import RunConfig
from ..system.durations import parse_duration
from ..system.user_folders import user_path
from .consistency import refuse_contradictions
from .error_messages import explain
from .overrides import parse_override

__all__ = ["DEFAULT_PRESETS", "dump", "load", "loads", "preset_names"]

DEFAULT_PRESETS = {"cpu": "laptop", "gpu": "gpu", "tpu": "tpu"}
"""Preset of each platform."""

_PRESETS = Path(__file__).parent


def preset_names() -> tuple[str, ...]:
    """Return the names of the presets that ship with the package.

    >>> preset_names()
    ('gpu', 'laptop', 'primer_paper', 'smoke', 'tpu')
    """
    return tuple(sorted(file.stem for file in _PRESETS.glob("*.toml")))


def load(preset_or_path: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a preset or a TOML file, apply overrides, and validate the result.

    Args:
        preset_or_path: one of `preset_names()`, or the path of a TOML file.
        overrides: texts `section.key=value`; the last one for a key wins. `_seconds` keys also take durations.

    Raises:
        UsageError: the preset or file does not exist or is not TOML, or a setting is unknown, of a wrong type, out of
            bounds, or contradicts another.

    >>> load("smoke", ["trial.batch=3"]).trial.batch
    3
    """
    return loads(_read(preset_or_path), preset_or_path, overrides)


def loads(text: str, name: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Like `load`, for TOML text; messages call the text `name`."""
    try:
        settings = tomllib.loads(text)
    except ValueError as error:
        raise UsageError(f"{name} is not valid TOML: {error}") from None
    except RecursionError:
        raise UsageError(f"{name} is not valid TOML: its values are nested too deeply") from None
    overridden = set()
    for override in map(parse_override, overrides):
        section = settings.setdefault(override.section, {})
        if isinstance(section, dict):
            section[override.key] = override.value
            overridden.add((override.section, override.key))
    _read_durations(settings)
    return _validated(settings, name, frozenset(overridden))


def dump(config: RunConfig) -> str:
    """Return the configuration as TOML with every setting; `loads` and `load` read it back exactly."""
    lines = []
    for section, settings in asdict(config).items():
        lines += [f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in settings.items()), ""]
    return "\n".join(lines)


def _read(preset_or_path: str) -> str:
    if preset_or_path in preset_names():
        return (_PRESETS / f"{preset_or_path}.toml").read_text(encoding="utf-8")
    path = user_path(preset_or_path)
    if path.suffix != ".toml" and len(path.parts) == 1 and not path.is_file():
        known = ", ".join(preset_names())
        raise UsageError(
            f"unknown preset {preset_or_path!r}{did_you_mean(preset_or_path, preset_names(), '')} "
            f"(presets: {known}; or give the path of a .toml file)"
        )
    try:
        return path.read_text(encoding="utf-8-sig")  # editors on Windows begin files with a byte order mark
    except UnicodeDecodeError:
        raise UsageError(f"{preset_or_path} is not valid TOML: it is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot read the configuration {preset_or_path!r}: {reason}") from None


def _read_durations(settings: dict[str, Any]) -> None:
    """Convert durations such as `30s` to seconds, for keys that end in `_seconds`."""
    for section, values in settings.items():
        for key, value in values.items() if isinstance(values, dict) else ():
            if key.endswith("_seconds") and isinstance(value, str):
                try:
                    values[key] = parse_duration(value)
                except UsageError as error:
                    raise UsageError(f"{section}.{key}: {error}") from None


def _validated(settings: dict[str, Any], name: str, overridden: frozenset[tuple[str, str]]) -> RunConfig:
    from pydantic import ValidationError

    try:
        config = _adapter().validate_json(json.dumps(settings, default=str))
    except ValidationError as error:
        raise UsageError(explain(error.errors(include_url=False)[0], name, overridden)) from None
    refuse_contradictions(config, f"{name}{' and --set' if overridden else ''}")
    return config


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(RunConfig)


def _toml(value: str | bool | int | float) -> str:
    # A JSON string is a TOML basic string, except that TOML requires DEL to be escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
