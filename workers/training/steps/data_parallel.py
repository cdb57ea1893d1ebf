"""Data parallelism: the devices of one trial, each with all parameters and an equal part of the batch.

Only sharding (`jax.sharding`) is needed. The step is compiled for a batch that is split over the one axis of the mesh,
and for a state with a copy on every device. XLA sums the gradients of the devices. Programs need no change.
"""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ....primitives.errors import UsageError
from ...config import TrialConfig
from ...devices.discovery import too_few_devices_error

__all__ = ["AXIS", "data_mesh", "replicated", "split"]

AXIS = "data"
"""Axis of the mesh over which a batch is split."""


def data_mesh(trial: TrialConfig) -> Mesh | None:
    """Return a mesh of this process's first `trial.devices` devices; None for one device, which needs none.

    Raises:
        UsageError: there are fewer devices, or the batch cannot be divided equally.
    """
    if trial.batch_problem:
        raise UsageError(trial.batch_problem)
    devices, seen = trial.devices, jax.local_devices()
    if len(seen) < devices:
        raise too_few_devices_error(devices, len(seen), seen[0].platform)
    return None if devices == 1 else Mesh(np.array(seen[:devices]), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding with a copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Return the sharding that divides the first axis, the sequences of the batch, among the devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))
