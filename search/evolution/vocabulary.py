"""Vocabulary of mutations: the ops that a search draws, and the mutations that plugins add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np

from ...plugins.plugin import PluginMutation
from ...plugins.registry import loaded_plugins, plugin_mutations
from ...primitives.errors import UsageError, WorkFailedError
from ...primitives.ops.op_table import OPS
from ...primitives.programs.program import DNA
from ...primitives.suggestions import did_you_mean

__all__ = ["PAPER", "Vocabulary", "read_vocabulary", "with_named_plugins"]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Ops and plugin mutations of a search; hashed by identity, so that it can be the key of a cache.

    Attributes:
        ops: names of the ops, in the order of the op table.
        mutations: mutations of plugins, by name.
    """

    ops: tuple[str, ...]
    mutations: Mapping[str, PluginMutation] = field(default_factory=dict)

    @cached_property
    def families(self) -> dict[str, tuple[str, ...]]:
        """The ops by family, in the order of the op table."""
        families: dict[str, tuple[str, ...]] = {}
        for op in self.ops:
            families[OPS[op].family] = (*families.get(OPS[op].family, ()), op)
        return families


PAPER = Vocabulary(tuple(name for name, op in OPS.items() if op.origin == "paper"))
"""The paper's 39 ops."""


def read_vocabulary(setting: str) -> Vocabulary:
    """Return the vocabulary that the setting `search.vocabulary` names.

    Args:
        setting: names separated by commas: `paper` (ops of the paper), `extended` (ops of the paper, and further ops of
            this package), a plugin, `plugins` (all loaded plugins), or an op. A minus in front of a name removes its
            ops and mutations again. `-extended` removes only the ops that are not in the paper.

    Raises:
        UsageError: a name is unknown, or no op is left.
    """
    plugins = [loaded.source.name for loaded in loaded_plugins()]
    groups = {
        "paper": ["paper"],
        "extended": ["paper", "extended"],
        "plugins": plugins,
        **{name: [name] for name in plugins},
    }
    ops: set[str] = set()
    mutating: set[str] = set()
    for word in filter(None, (word.strip() for word in setting.split(","))):
        name = word.removeprefix("-")
        if name not in groups and name not in OPS:
            known = did_you_mean(name, [*groups, *OPS], "`primer-search primitives` lists the ops")
            raise UsageError(f"search.vocabulary names the unknown op or group {name!r}{known}")
        origins = ["extended"] if word == "-extended" else groups.get(name, [])
        named = {op.name for op in OPS.values() if op.origin in origins or op.name == name}
        if word.startswith("-"):
            ops, mutating = ops - named, mutating.difference(origins)
        else:
            ops, mutating = ops | named, mutating.union(origins)
    if not ops:
        raise UsageError(f"search.vocabulary = {setting!r} leaves no op: name `paper`, `extended`, a plugin or ops")
    edits = plugin_mutations(name for name in plugins if name in mutating)
    return Vocabulary(
        tuple(op for op in OPS if op in ops), {name: partial(_named, name, edit) for name, edit in edits.items()}
    )


def with_named_plugins(setting: str) -> str:
    """Return the setting with the names of the loaded plugins instead of `plugins`.

    So a resumed run uses the plugins that it began with, even if others have been installed since.

    >>> with_named_plugins("paper,plugins")
    'paper'
    """
    plugins = [loaded.source.name for loaded in loaded_plugins()]
    words = [word.strip() for word in setting.split(",")]
    named = [plugins if word == "plugins" else [f"-{name}" for name in plugins] if word == "-plugins" else [word]
             for word in words]  # fmt: skip
    return ",".join(name for names in named for name in names)


def _named(name: str, edit: PluginMutation, dna: DNA, rng: np.random.Generator) -> tuple[DNA, str] | None:
    """Apply a plugin mutation. The description begins with the mutation's name, by which reports count edits."""
    try:
        result = edit(dna, rng)
    except Exception as error:
        raise WorkFailedError(f"mutation {name} of a plugin fails with {type(error).__name__}: {error}") from error
    if result is None:
        return None
    child, description = result
    return child, description if description.startswith(name) else f"{name}: {description}"
