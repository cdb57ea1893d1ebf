"""Load plugins: those that are installed, those that a user names, and those of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..primitives.errors import UsageError, WorkFailedError
from ..system.process_pool import ProcessPool
from .registry import find_loaded, loaded_plugins, register
from .sources import PluginSource, find_source, installed_sources, is_checked, is_known, remember

__all__ = ["load_plugins", "load_recorded"]

Tell = Callable[[str], None]


def load_plugins(references: Sequence[str], tell: Tell = lambda line: None) -> None:
    """Load installed plugins and those that a user names. Each version of a source is checked once.

    Args:
        references: paths of .py files, or names of importable modules.
        tell: callback that receives a message before a check, which takes some seconds.

    Raises:
        UsageError: a plugin is not found, clashes with another, or breaks its contract.
    """
    for source in [*installed_sources(), *map(find_source, references)]:
        _load(source, tell)


def load_recorded(recorded: Sequence[Mapping[str, Any]], run: str) -> None:
    """Load the plugins of a run from where the run found them; their source must be unchanged.

    Args:
        recorded: plugins of the run's manifest.
        run: name of the run, for messages.

    Raises:
        UsageError: a plugin is not found, its source has changed, or this user has never loaded it.
    """
    for fields in recorded:
        source = PluginSource.from_dict(dict(fields))
        loaded = find_loaded(source.name)
        if loaded is not None and loaded.source.sha256 == source.sha256:
            continue
        made = f"run {run} was made with plugin {source.name} ({source.reference}, sha256 {source.sha256[:12]})"
        if loaded is not None:
            other = loaded.source
            raise UsageError(
                f"{made}, but {other.reference} is loaded, and its source differs ({other.sha256[:12]}): "
                "give the run's file"
            )
        try:
            found = find_source(source.reference)
        except UsageError:
            raise UsageError(f"{made}, which is not found: give its file with --plugin") from None
        if found.sha256 != source.sha256:
            raise UsageError(
                f"{made}, which has changed since (now {found.sha256[:12]}): restore it, or start a new run"
            )
        if found.is_file and not is_known(found):
            raise UsageError(f"{made}, which you have not loaded before: read it, and give it with --plugin to run it")
        _load(found)


def _load(source: PluginSource, tell: Tell = lambda line: None) -> None:
    if not is_checked(source) and find_loaded(source.name) is None:
        from .contract_check import check_plugin

        tell(f"plugin {source.name}: checking its contract (once for each version of its source)")
        earlier = [loaded.source for loaded in loaded_plugins()]
        with ProcessPool(1) as pool:  # its process runs on the CPU, so the check does not occupy accelerators
            try:
                list(pool.map([partial(check_plugin, earlier, source)]))
            except WorkFailedError as error:
                raise UsageError(f"plugin {source.name}: its check could not be completed: {error}") from error
        remember(source)
    register(source)
