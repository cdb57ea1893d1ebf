"""Presets as TOML, and the loader that validates them."""

from ..system.durations import format_duration, parse_duration
from .load import dump, load, loads, preset_names

__all__ = ["dump", "format_duration", "load", "loads", "parse_duration", "preset_names"]
