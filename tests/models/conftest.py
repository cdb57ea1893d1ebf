"""What tests of models can ask for: JAX as careful code bases set it up."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture
def no_rank_promotion() -> Iterator[None]:
    """Make arithmetic on arrays of different ranks an error, as users may do."""
    with jax.numpy_rank_promotion("raise"):
        yield
