"""The known trackers, the packages that they need, and a function that opens one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Literal, get_args

from ...primitives.errors import UsageError
from .tracked_records import TrackedRun
from .tracker import Tracker

__all__ = ["TrackerName", "check_trackers", "open_tracker"]

TrackerName = Literal["tensorboard", "wandb", "mlflow"]

_PACKAGES: dict[str, tuple[str, str]] = {
    "tensorboard": ("tensorboardX", "tensorboardX tensorboard"),
    "wandb": ("wandb", "wandb"),
    "mlflow": ("mlflow", "mlflow-skinny sqlalchemy alembic"),
}
"""For each tracker: the module it imports, and what pip installs."""


def check_trackers(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names without repetitions, after a check that their packages are installed.

    Raises:
        UsageError: a tracker is unknown, or its package is missing.
    """
    for name in names:
        if name not in _PACKAGES:
            raise UsageError(f"unknown tracker {name!r}: choose from {', '.join(get_args(TrackerName))}")
        module, packages = _PACKAGES[name]
        if find_spec(module) is None:
            raise UsageError(f"tracking with {name} needs a package that is missing: pip install {packages}")
    return tuple(dict.fromkeys(names))


def open_tracker(name: str, run: TrackedRun, state: Mapping[str, str]) -> Tracker:
    """Open a tracker for a run.

    Args:
        name: name of the tracker.
        run: the run.
        state: `Tracker.state` of an earlier session; empty in the first session.
    """
    module = import_module(f".{name}_tracker", __package__)
    return module.open_tracker(run, dict(state))
