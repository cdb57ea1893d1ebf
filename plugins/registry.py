"""The plugins of this process: their ops are rows of the op table, and their programs are in the library."""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import ModuleType

from ..primitives.errors import UsageError
from ..primitives.graphs.graph import CONCAT, INPUT
from ..primitives.ops.op_table import OPS
from ..primitives.programs.library import LIBRARY, define_program
from .op_contract import BrokenContractError, check_row
from .plugin import Plugin, PluginMutation, ProgramText
from .sources import PluginSource

__all__ = [
    "LoadedPlugin",
    "find_loaded",
    "loaded_plugins",
    "plugin_mutations",
    "plugin_sources",
    "recorded_plugins",
    "register",
    "unload",
]

BUILT_IN_MUTATIONS = frozenset(
    {"Delete", "Insert", "Delete and insert", "Mutate field", "Swap", "Mutate bank value"}
    | {"Wrap", "Replace op", "Rewire", "Resize", "Constant"}
)
"""Names of the mutations of the built-in strategies, which a plugin cannot use."""


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """A plugin and its source."""

    source: PluginSource
    plugin: Plugin


_LOADED: dict[str, LoadedPlugin] = {}


def loaded_plugins() -> tuple[LoadedPlugin, ...]:
    """Return the plugins of this process, in the order in which they were loaded."""
    return tuple(_LOADED.values())


def find_loaded(name: str) -> LoadedPlugin | None:
    """Return the plugin of this name, or None if this process has none."""
    return _LOADED.get(name)


def recorded_plugins() -> list[dict[str, str]]:
    """Return the plugins of this process as JSON values, for the manifest of a run."""
    return [loaded.source.to_dict() for loaded in loaded_plugins()]


def plugin_sources() -> tuple[PluginSource, ...]:
    """Return the sources of the plugins of this process."""
    return tuple(loaded.source for loaded in loaded_plugins())


def plugin_mutations(names: Iterable[str]) -> dict[str, PluginMutation]:
    """Return the mutations of some plugins, by name."""
    return {name: edit for plugin in names for name, edit in _LOADED[plugin].plugin.mutations.items()}


def register(source: PluginSource) -> LoadedPlugin:
    """Execute a plugin and add its rows and programs to this process.

    Only the rows themselves are checked here; `check_plugin` also runs the ops.

    Raises:
        UsageError: the source fails, defines no plugin, clashes with another plugin, or breaks its contract.
    """
    if source.name in _LOADED:
        if _LOADED[source.name].source.sha256 == source.sha256:
            return _LOADED[source.name]
        raise UsageError(f"two plugins are named {source.name}, but their sources differ: rename the file of one")
    plugin = _executed(source)
    _refuse_clashes(source.name, plugin)
    for op in plugin.ops:
        try:
            check_row(op)
        except BrokenContractError as error:
            raise UsageError(f"plugin {source.name}, op {op.name}: {error}") from error
    loaded = LoadedPlugin(source, plugin)
    _LOADED[source.name] = loaded
    try:
        OPS.update({op.name: replace(op, origin=source.name) for op in plugin.ops})
        for name, program in plugin.programs.items():
            _define(source.name, name, program)
    except BaseException:
        unload(source.name)
        raise
    return loaded


def unload(name: str) -> None:
    """Remove a plugin from this process; used by tests."""
    loaded = _LOADED.pop(name)
    for op in loaded.plugin.ops:
        OPS.pop(op.name, None)
    for program in loaded.plugin.programs:
        LIBRARY.pop(program, None)


def _executed(source: PluginSource) -> Plugin:
    """Execute the source as a separate module, and return its plugin.

    Only source that assigns `PLUGIN` is executed, so that a run directory cannot make any other module run.
    """
    try:
        statements = ast.parse(source.text).body
    except SyntaxError as error:
        raise UsageError(f"plugin {source.name} is not Python: {error.msg} in line {error.lineno}") from None
    assigned = [target for statement in statements if isinstance(statement, ast.Assign) for target in statement.targets]
    assigned += [statement.target for statement in statements if isinstance(statement, ast.AnnAssign)]
    if not any(isinstance(target, ast.Name) and target.id == "PLUGIN" for target in assigned):
        raise UsageError(f"plugin {source.name} must assign a Plugin to the name PLUGIN (see docs/extending.md)")
    module = ModuleType(f"primer_search_plugin_{source.name}")
    module.__file__ = source.reference
    lines = source.text.splitlines(keepends=True)
    linecache.cache[source.reference] = (len(source.text), None, lines, source.reference)  # for `inspect.getsource`
    sys.modules[module.__name__] = module
    try:
        exec(compile(source.text, source.reference, "exec"), module.__dict__)
    except UsageError as error:
        raise UsageError(f"plugin {source.name}: {error}") from error
    except (Exception, SystemExit) as error:  # code of a plugin may raise anything
        raise UsageError(f"plugin {source.name} cannot be executed: {type(error).__name__}: {error}") from error
    plugin = getattr(module, "PLUGIN", None)
    if not isinstance(plugin, Plugin):
        raise UsageError(f"plugin {source.name} must assign a Plugin to the name PLUGIN (see docs/extending.md)")
    return plugin


def _refuse_clashes(name: str, plugin: Plugin) -> None:
    taken: dict[str, Iterable[str]] = {
        "op": {*OPS, INPUT, CONCAT},
        "library program": {*LIBRARY},
        "mutation": {*BUILT_IN_MUTATIONS, *plugin_mutations(_LOADED)},
    }
    offered = {
        "op": [op.name for op in plugin.ops],
        "library program": [*plugin.programs],
        "mutation": [*plugin.mutations],
    }
    for kind, names in offered.items():
        for each in names:
            if each in taken[kind] or names.count(each) > 1:
                raise UsageError(f"plugin {name}: there is already a {kind} named {each}: choose another name")
    others = [op for op in OPS.values() if op.definition]
    functions = [op.source.partition("(")[0] for op in (*others, *plugin.ops)]
    for function in functions:
        if functions.count(function) > 1:
            raise UsageError(f"plugin {name}: two ops have a function named {function}: rename one, for exported files")


def _define(plugin: str, name: str, text: ProgramText) -> None:
    where = f"plugin {plugin}, program {name}"
    if not name.isupper() or not name.isidentifier():
        raise UsageError(f"{where}: the name must be capital letters, digits and underscores")
    try:
        define_program(
            name, text.description, text.reference, text.subprograms, text.constants, text.dimensions, text.native_unit,
            text.length_dependent,
        )  # fmt: skip
    except (ValueError, IndexError, AttributeError) as error:
        raise UsageError(f"{where}: its text cannot be assembled: {error}") from error
