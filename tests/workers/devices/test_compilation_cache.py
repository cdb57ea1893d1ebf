"""Compiled programs are kept on disk and loaded by later processes, within a bound."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

PROCESS = """
import logging, sys
import jax, numpy as np
from primer_search.workers.devices import compilation_cache

logging.basicConfig()
compilation_cache.MIN_COMPILE_SECONDS = 0
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
compilation_cache.use_compilation_cache(int(sys.argv[1]))
print(jax.jit(lambda x: 2 * x + 1)(np.arange(3)), events.count("/jax/compilation_cache/cache_hits"))
"""


def compiled_in_a_process(
    cache: Path, mebibytes: int = 1, environment: Mapping[str, str] = MappingProxyType({})
) -> tuple[str, str]:
    """Return what a process prints that compiles a function: its result with the number of cache hits, and warnings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_COMP", "JAX_PERSIST"))}
    ended = subprocess.run(
        [sys.executable, "-c", PROCESS, str(mebibytes)],
        env=kept | {"PRIMER_SEARCH_CACHE": str(cache), "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout.strip(), ended.stderr


def kept_programs(cache: Path) -> list[Path]:
    return list(cache.rglob("*-cache"))


def test_a_later_process_loads_what_an_earlier_one_compiled(tmp_path: Path) -> None:
    old, recent = tmp_path / "compiled" / "old", tmp_path / "compiled" / "recent"
    for folder, age in ((old, 31 * 86_400), (recent, 0)):
        folder.mkdir(parents=True)
        changed = folder.stat().st_mtime - age
        os.utime(folder, (changed, changed))
    assert compiled_in_a_process(tmp_path)[0] == "[1 3 5] 0"
    assert kept_programs(tmp_path)
    assert compiled_in_a_process(tmp_path)[0] == "[1 3 5] 1"
    assert recent.exists() and not old.exists()


def test_nothing_is_kept_when_it_is_turned_off(tmp_path: Path) -> None:
    assert compiled_in_a_process(tmp_path, mebibytes=0)[0] == "[1 3 5] 0"
    assert not kept_programs(tmp_path)


def test_the_users_own_cache_comes_first(tmp_path: Path) -> None:
    own = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "own"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    compiled_in_a_process(tmp_path / "cache", environment=own)
    assert kept_programs(tmp_path / "own") and not kept_programs(tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_reported_and_does_not_stop_the_worker(tmp_path: Path) -> None:
    (tmp_path / "compiled").write_text("a file in the place of the folder")
    printed, warnings = compiled_in_a_process(tmp_path)
    assert printed == "[1 3 5] 0"
    assert "compiled programs are not kept" in warnings
