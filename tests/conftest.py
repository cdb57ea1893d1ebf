"""What every test stands on: JAX on the CPU, Hypothesis without deadlines, and randomness that can be repeated."""

from __future__ import annotations

import os
import zlib

os.environ["JAX_PLATFORMS"] = "cpu"  # before anything imports JAX
# pytest-xdist sets both in its workers, and a shell may export them; tables would be printed in that width.
os.environ.pop("COLUMNS", None)
os.environ.pop("LINES", None)

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("primer-search", deadline=None, print_blob=True)
settings.load_profile("primer-search")

RUN_SEED = int(os.environ.get("PRIMER_SEARCH_TEST_SEED", "0"))


def pytest_report_header() -> str:
    """Say which seed the run has, so that a failure can be repeated."""
    return f"seed: {RUN_SEED} (PRIMER_SEARCH_TEST_SEED sets another, --hypothesis-seed that of Hypothesis)"


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator of the test's own, the same in every run with the same seed; printed where the test fails."""
    seed = [RUN_SEED, zlib.crc32(request.node.name.encode())]
    print(f"rng of {request.node.name}: numpy.random.default_rng({seed})")
    return np.random.default_rng(seed)
