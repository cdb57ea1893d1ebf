"""Freed memory stays with a process that trains until it returns it."""

import os
import platform
import subprocess
import sys

import pytest

from primer_search.system.allocator import allocator_environment

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")

MALLOC = """
import ctypes
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
def fill_and_free():
    block = library.malloc(100 << 20)
    ctypes.memset(block, 1, 100 << 20)
    library.free(block)
"""

COUNT_FAULTS = (
    MALLOC
    + """
import resource, threading
def count_faults():
    fill_and_free()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    fill_and_free()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=count_faults)
thread.start()
thread.join()
"""
)

COUNT_RETURNED_BYTES = (
    MALLOC
    + """
from primer_search.system.allocator import return_freed_memory
from primer_search.system.host import resident_bytes
fill_and_free()
held = resident_bytes()
return_freed_memory()
print(held - resident_bytes())
"""
)


def printed_number(program: str, environment: dict[str, str]) -> int:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@glibc
def test_a_thread_gets_its_freed_pages_again():
    pages = (100 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert printed_number(COUNT_FAULTS, {}) >= pages
    assert printed_number(COUNT_FAULTS, allocator_environment(threads=1)) < pages / 10
    kept = "from primer_search.system.allocator import keep_freed_memory\nkeep_freed_memory()\n"
    assert printed_number(kept + COUNT_FAULTS, {}) < pages / 10


def test_variables_of_the_user_are_respected(monkeypatch):
    assert set(allocator_environment(1)) - set(allocator_environment(2)) == {"MALLOC_ARENA_MAX"}
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000")
    assert "MALLOC_TRIM_THRESHOLD_" not in allocator_environment(1)


@glibc
def test_freed_pages_are_returned_on_request():
    assert printed_number(COUNT_RETURNED_BYTES, allocator_environment(threads=1)) > 90 << 20
