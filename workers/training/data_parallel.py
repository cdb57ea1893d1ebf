"""The devices one trial is spread over: every device computes on its share of the batch, with all of the parameters.

Data parallelism by sharding alone (`jax.sharding`): the step is compiled for a batch that is split over the mesh's one
axis and for a state that each device has a copy of; XLA adds up the gradients. A program needs to know nothing of it.
"""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ...primitives.errors import UsageError
from ..devices.discovery import too_few_devices_error

__all__ = ["AXIS", "data_mesh", "replicated", "split"]

AXIS = "data"
"""The mesh's axis, over which a batch is split."""


def data_mesh(devices: int, batch: int) -> Mesh | None:
    """A mesh of this process's first devices; None for one device, which needs none.

    Args:
        devices: how many, `trial.devices`.
        batch: sequences, of which every device gets as many.

    Raises:
        UsageError: there are fewer devices, or the batch does not divide.
    """
    if batch % devices:
        raise UsageError(
            f"trial.batch = {batch} sequences do not divide among trial.devices = {devices}: "
            f"use a multiple of {devices}, or fewer devices."
        )
    seen = jax.local_devices()
    if len(seen) < devices:
        raise too_few_devices_error(devices, len(seen), seen[0].platform)
    return None if devices == 1 else Mesh(np.array(seen[:devices]), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """The first axis, that of sequences, divided among the devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))
