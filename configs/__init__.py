"""Presets in TOML, the loader that validates them, checks of settings against each other, and the plan of a search."""

from ..system.durations import format_duration, parse_duration
from .load import dump, load, loads, preset_names

__all__ = ["dump", "format_duration", "load", "loads", "parse_duration", "preset_names"]
