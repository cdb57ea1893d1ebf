"""A start of Ray that its own limits end is repeated, and says so."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress

import psutil
import pytest

from primer_search.system.host import is_alive
from primer_search.workers.executors.ray_cluster import RayCluster

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="finds Ray's agent by the command line of its process"),
    pytest.mark.usefixtures("one_ray_at_a_time"),
]


def freeze_first_agent(ended: threading.Event, frozen: list[psutil.Process]) -> None:
    """Stop the first agent of a raylet, as an overloaded machine would: the raylet gives it 15 s."""
    while not ended.is_set():
        for process in psutil.Process(os.getpid()).children(recursive=True):
            with suppress(psutil.Error):
                if any(word.endswith("dashboard/agent.py") for word in process.cmdline()):
                    process.suspend()
                    frozen.append(process)
                    return
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # of Ray, which forgets them
def test_a_start_that_ray_gives_up_is_repeated_and_leaves_no_process() -> None:
    before, ended = set(psutil.Process().children(recursive=True)), threading.Event()
    frozen: list[psutil.Process] = []
    freezer = threading.Thread(target=freeze_first_agent, args=(ended, frozen))
    freezer.start()
    told: list[str] = []
    cluster = RayCluster(None, told.append)
    try:
        cluster.connect(1)
        assert cluster.nodes()[0]["CPU"] == 1
        assert told[0] == "note: Ray's own processes did not start within Ray's time limits: attempt 2 of 3"
        assert sum(child.name() == "gcs_server" for child in psutil.Process().children()) == 1
    finally:
        ended.set()
        freezer.join()
        cluster.disconnect()
    psutil.wait_procs({*psutil.Process().children(recursive=True), *frozen} - before, timeout=10)
    assert len(frozen) == 1 and not is_alive(frozen[0])
    assert not [child for child in psutil.Process().children(recursive=True) if child not in before]
