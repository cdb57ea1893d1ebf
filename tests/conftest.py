"""What every test stands on: JAX on the CPU, Hypothesis without deadlines, and randomness that can be repeated."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import zlib
from collections.abc import Iterator

os.environ["JAX_PLATFORMS"] = "cpu"  # before anything imports JAX
# Most of the time goes into compiling what runs once. Code that LLVM does not optimize is ready sooner, and XLA's older
# emitters of fused loops take less than half of the time of the newer ones.
os.environ["XLA_FLAGS"] = " ".join(
    (os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false")
).strip()
# pytest-xdist sets both in its workers, and a shell may export them; tables would be printed in that width.
os.environ.pop("COLUMNS", None)
os.environ.pop("LINES", None)

import jax
import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings

gc.set_threshold(100_000, 50, 100)  # traced programs are millions of objects, and most collections find nothing

settings.register_profile("primer-search", deadline=None, print_blob=True)
settings.load_profile("primer-search")

RUN_SEED = int(os.environ.get("PRIMER_SEARCH_TEST_SEED", "0"))


COMPILED_BYTES = 2**30
"""Size above which the cache of compiled programs is deleted before a run."""


def pytest_configure(config: pytest.Config) -> None:
    """Let all tests, the processes they start and later runs share compiled programs, in pytest's cache folder."""
    if not hasattr(config, "cache"):  # -p no:cacheprovider
        return
    folder = config.cache.mkdir("compiled")
    if not hasattr(config, "workerinput") and sum(file.stat().st_size for file in folder.iterdir()) > COMPILED_BYTES:
        shutil.rmtree(folder)
    shared = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in shared.items():
        chosen = os.environ.setdefault(name.upper(), str(value))
        jax.config.update(name, type(value)(chosen))  # JAX has read its variables by now


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests with Ray first: one process runs them all, and none waits for `one_ray_at_a_time` at the end."""
    items.sort(key=lambda item: "one_ray_at_a_time" not in getattr(item, "fixturenames", ()))


def pytest_report_header() -> str:
    """Say which seed the run has, so that a failure can be repeated."""
    return f"seed: {RUN_SEED} (PRIMER_SEARCH_TEST_SEED sets another, --hypothesis-seed that of Hypothesis)"


@pytest.fixture(scope="module", autouse=True)
def programs_are_dropped() -> Iterator[None]:
    """Drop the programs that the tests of a module have traced: they take gigabytes, and others hardly use them."""
    yield
    jax.clear_caches()


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator of the test's own, the same in every run with the same seed; printed where the test fails."""
    seed = [RUN_SEED, zlib.crc32(request.node.name.encode())]
    print(f"rng of {request.node.name}: numpy.random.default_rng({seed})")
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def one_ray_at_a_time(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A lock that modules with Ray hold: their searches expect the cores of the whole machine."""
    base = tmp_path_factory.getbasetemp()
    with FileLock((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "ray.lock"):
        yield


@pytest.fixture(autouse=True)
def signal_handlers_stay() -> Iterator[None]:
    """Fail a test that leaves another handler of SIGINT: later tests that interrupt themselves would not end."""
    before = signal.getsignal(signal.SIGINT)
    yield
    after = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)
    # Jupyter's client sets Python's own handler, also where a shell has started the tests with SIGINT ignored.
    assert after in (before, signal.default_int_handler), f"the test left {after} as the handler of SIGINT"
