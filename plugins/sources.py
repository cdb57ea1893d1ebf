"""Sources of plugins: files, importable modules and installed entry points. Records which sources a user has loaded.

A plugin is one file. Its source is its identity: a run records it, workers execute it, and a run made with one source
is never continued with another. A run directory alone never causes code to run. A recorded plugin is loaded again under
two conditions: the source is still where the plugin was found, with the recorded hash; and it is an importable module,
or this user has loaded that source with `--plugin` before (`is_known`).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import re
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..primitives.errors import UsageError
from ..system.files import write_output
from ..system.user_folders import cache_folder, user_path

__all__ = ["ENTRY_POINTS", "PluginSource", "find_source", "installed_sources", "is_checked", "is_known", "remember"]

ENTRY_POINTS = "primer_search.plugins"
"""Group of the entry points of installed plugins; the value of an entry point is a module."""

_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class PluginSource:
    """The source of a plugin.

    Attributes:
        name: name of the file or the last part of the module's name.
        reference: path of the file, or name of the module.
        text: Python source.
    """

    name: str
    reference: str
    text: str

    @property
    def sha256(self) -> str:
        """Hash of the source."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def is_file(self) -> bool:
        """Whether the reference is a path."""
        return self.reference.endswith(".py")

    def to_dict(self) -> dict[str, str]:
        """Return the fields and the hash as JSON values."""
        return {**asdict(self), "sha256": self.sha256}

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> PluginSource:
        """Return the source that `to_dict` wrote."""
        return PluginSource(fields["name"], fields["reference"], fields["text"])


def find_source(reference: str) -> PluginSource:
    """Return the source of a plugin without executing it.

    Args:
        reference: path of a .py file, or the name of an importable module.

    Raises:
        UsageError: there is no such file or module, or it cannot be read.
    """
    if reference.endswith(".py") or "/" in reference:
        path = user_path(reference).absolute()
        if path.suffix != ".py":
            raise UsageError(f"--plugin {reference} must be a .py file or the name of an importable module")
        return PluginSource(_name(path.stem), str(path), _read(path, reference))
    origin = _module_file(reference)
    if origin is None:
        raise UsageError(
            f"plugin {reference} is not found: no module of this name can be imported; install it, or give the path of "
            "a .py file"
        )
    return PluginSource(_name(reference.rpartition(".")[2]), reference, _read(Path(origin), reference))


def installed_sources() -> list[PluginSource]:
    """Return the plugins that installed packages offer as entry points, in the order of their names.

    Raises:
        UsageError: the module of an entry point is not there; the message names the package.
    """
    found = sorted(importlib.metadata.entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name)
    return [_installed_source(entry) for entry in found]


def _installed_source(entry: importlib.metadata.EntryPoint) -> PluginSource:
    try:
        return find_source(entry.module)
    except UsageError:
        package = "an installed package" if entry.dist is None else f"the installed package {entry.dist.name}"
        raise UsageError(
            f"{package} offers the plugin {entry.module}, which is not an importable Python file with a name in lower "
            "case: fix the package, or uninstall it"
        ) from None


def is_known(source: PluginSource) -> bool:
    """Return whether this user has chosen to load this source before."""
    return _record(source).exists()


def is_checked(source: PluginSource) -> bool:
    """Return whether this version of the package has checked this source."""
    try:
        return json.loads(_record(source).read_text(encoding="utf-8")).get("checked_by") == _package_hash()
    except (OSError, ValueError):
        return False


def remember(source: PluginSource) -> None:
    """Record that the user has loaded this source, and that this version of the package has checked it."""
    record = _record(source)
    fields = {"name": source.name, "reference": source.reference, "checked_by": _package_hash()}
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        write_output(record, json.dumps(fields), "")
    except (OSError, UsageError):
        return  # it is checked again next time


def _record(source: PluginSource) -> Path:
    return cache_folder("plugins") / f"{source.sha256}.json"


@cache
def _package_hash() -> str:
    """Return a hash of the modules that the checks depend on."""
    files = [path for folder in ("primitives", "models", "plugins") for path in sorted((_ROOT / folder).rglob("*.py"))]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def _module_file(name: str) -> str | None:
    """Return the file of an importable module; only its parent packages are imported."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    return spec.origin if spec is not None and str(spec.origin).endswith(".py") else None


def _name(stem: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", stem) or stem == "paper":
        raise UsageError(
            f"a plugin cannot be named {stem!r}: name the file with lower-case letters, digits and underscores"
        )
    return stem


def _read(path: Path, reference: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"plugin {reference} is not UTF-8 text: give a Python file") from None
    except OSError as error:
        raise UsageError(f"plugin {reference} cannot be read: {error.strerror}; check the path") from None
