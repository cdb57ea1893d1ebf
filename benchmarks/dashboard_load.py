"""Response times and memory of the dashboard for a run of many candidates, while a search writes it.

    python benchmarks/dashboard_load.py --candidates 100000 --run-dir FOLDER

The run is invented: regularized evolution over losses drawn at random, with programs, learning curves and outcomes of
real sizes. A second process adds results to it while the pages are timed. A run that exists in the folder is used
again. The CPU time is that of the server; other load on the machine affects it less than the response time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import subprocess
import sys
import time
import urllib.request
from collections import deque
from pathlib import Path
from statistics import median

import psutil

from primer_search.primitives.programs.library import TRANSFORMER
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.evolution.candidate import BASELINE_ID, Candidate
from primer_search.search.results.leaderboard import leaderboard, leading_candidate
from primer_search.search.runs.store import Store
from primer_search.workers.protocol import Evaluation, TrialRequest

POPULATION, TOURNAMENT = 100, 25
STEPS = 1000
KINDS = ("Insert in feed_forward: x3 = SQUARE(x2)", "Delete in relu: x4 = ABS(x2)", "Rewire in main: x2 = ADD(h0, x1)")
CONFIG = {
    "model": {"layers": 2, "unit": 8},
    "trial": {"unit": "steps", "budget_steps": STEPS, "price": False},
    "search": {"strategy": "evolution"},
    "data": {"source": "invented"},
}
PAGES = {
    "overview": "",
    "overview's figure": "/progress.json",
    "state (polled)": "/state.json",
    "leaderboard": "/leaderboard",
    "sorted by step time": "/leaderboard?sort=step",
    "sorted by parameters, reversed": "/leaderboard?sort=parameters&order=reverse",
    "sorted by speed": "/leaderboard?sort=speed",
    "page 500": "/leaderboard?page=500",
    "stopped at a hurdle, page 100": "/leaderboard?status=stopped&page=100",
    "filter by text": "/leaderboard?text=square",
    "better, below a step time": "/leaderboard?better=1&step_ms=12",
    "Pareto figure, step time": "/front.json?cost=step",
    "Pareto figure, memory": "/front.json?cost=memory",
    "candidate": "/candidates/LAST",
    "candidate, every part": "/candidates/LAST?against=parent&graph=everything",
    "candidate's learning curve": "/candidates/LAST/curve.json",
    "lineage of the best 8": "/lineage",
    "lineage of the best 32": "/lineage?top=32",
    "kinds of edits": "/edits",
    "kinds of edits, figure": "/edits.json",
    "comparison": "../../compare",
}


class Invented:
    """A search with invented results, which are written to the store."""

    def __init__(self, store: Store, first: int):
        self.store, self.next_id = store, first
        self.draw = random.Random(first)
        self.now = time.time() - 1e6 if first == 0 else time.time()
        self.dna = dna_to_json(TRANSFORMER)
        self.losses: dict[int, float] = {}
        self.population: deque[int] = deque([0], maxlen=POPULATION)

    def clock(self) -> float:
        """Return a time that is one second later in every call."""
        self.now += 1.0
        return self.now

    def add(self) -> None:
        """Propose a candidate and finish its training."""
        number, draw = self.next_id, self.draw
        chosen = draw.sample(list(self.population), min(TOURNAMENT, len(self.population)))
        parent = None if number == 0 else min(chosen, key=lambda each: self.losses.get(each, 9.0))
        edits = tuple(draw.choice(KINDS) for _ in range(draw.choice((1, 1, 2))))
        candidate = Candidate(number, TRANSFORMER, parent, edits if number else (), f"{draw.getrandbits(128):032x}")
        self.store.add_candidate(
            candidate, {"mutations": 3, "invalid_widths": 1, "same_structure": 1, "fingerprint": "0" * 32}, self.dna
        )
        for _ in range(3 if number == 0 else 1):
            trial = self.store.next_trial_id()
            self.store.start_trial(TrialRequest(trial, number, "", seed=trial))
            self.store.finish_trial(trial, self.evaluation(number, parent))
        self.population.append(number)
        self.next_id += 1

    def evaluation(self, number: int, parent: int | None) -> Evaluation:
        """Return a random result, with a loss near the parent's."""
        draw = self.draw
        before = 4.0 if parent is None else self.losses.get(parent, 4.0)
        final = max(3.5, before + draw.gauss(0.004, 0.012)) if number else 4.0 + draw.gauss(0.0, 0.01)
        self.losses[number] = final
        curve = tuple(
            (float(at), at, final + 3.0 * (100.0 / (at + 100.0)) + draw.gauss(0, 0.1)) for at in range(10, 1001, 10)
        )
        hurdles = tuple(final + 400.0 / at for at in (200, 400, 700))
        end = draw.random()
        outcome = "ok" if end < 0.5 or number == 0 else "stopped_at_hurdle" if end < 0.94 else "non_finite"
        passed = 3 if outcome == "ok" else draw.choice((1, 2, 3)) if outcome == "stopped_at_hurdle" else 0
        return Evaluation(
            outcome,
            loss_nats=final if outcome == "ok" else None,
            bits_per_byte=final / 1.84 if outcome == "ok" else None,
            hurdle_losses=hurdles[:passed],
            hurdle_steps=(200, 400, 700)[:passed],
            curve=curve if outcome == "ok" else curve[:40],
            steps=STEPS,
            tokens=STEPS * 512,
            epochs=0.12,
            train_seconds=12.0,
            compile_seconds=0.5,
            evaluate_seconds=1.0,
            wall_seconds=14.0,
            spent=float(STEPS),
            step_ms=draw.gauss(12.0, 1.0),
            moved_logits=0.0,
            parameters=165_000 + 8 * draw.randrange(4000),
            block_parameters=50_000,
            flops_per_token=120_000.0,
            step_flops=5.7e8,
            step_bytes=4.1e8,
            step_transcendentals=8.2e5,
            peak_memory_bytes=draw.randrange(400, 700) * 2**20,
            device="cpu",
        )


def invent(folder: Path, candidates: int) -> None:
    """Write a run with this number of candidates."""
    folder.mkdir(parents=True)
    manifest = {"config": CONFIG, "seed": 0, "workers": 1, "budget_seconds": 2e6, "command": "invented"}
    invented: list[Invented] = []
    with Store.create(folder, manifest, clock=lambda: invented[0].clock() if invented else time.time()) as store:
        store.never_wait_for_disk()
        invented.append(Invented(store, 0))
        while invented[0].next_id < candidates:
            with store.transaction():
                for _ in range(min(2000, candidates - invented[0].next_id)):
                    invented[0].add()


def keep_writing(folder: Path, pause_seconds: float) -> None:
    """Add candidates with results to the run until this process is ended."""
    with Store.open(folder) as store:
        invented = Invented(store, _next_candidate(store))
        invented.population.append(leading_candidate(leaderboard(store, top=2)) or BASELINE_ID)
        while True:
            invented.add()
            time.sleep(pause_seconds)


def _next_candidate(store: Store) -> int:
    return store.event_count("proposed")


def fetch(url: str) -> tuple[float, int]:
    """Return the seconds until the whole answer has arrived, and its bytes."""
    begun = time.perf_counter()
    with urllib.request.urlopen(url, timeout=60) as answer:
        size = len(answer.read())
    return time.perf_counter() - begun, size


def used(process: psutil.Process) -> float:
    """Return the seconds of processor time that a process has used."""
    times = process.cpu_times()
    return times.user + times.system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=10, help="requests for each page")
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between results that are written")
    options = parser.parse_args()
    if not (options.run_dir / "run.sqlite").exists():
        begun = time.perf_counter()
        invent(options.run_dir, options.candidates)
        print(f"wrote {options.candidates:,} candidates in {time.perf_counter() - begun:.0f} s")
    print(f"store: {(options.run_dir / 'run.sqlite').stat().st_size / 2**20:,.0f} MiB")
    writer = multiprocessing.get_context("spawn").Process(target=keep_writing, args=(options.run_dir, options.pause))
    writer.start()
    command = [sys.executable, "-m", "primer_search", "dashboard", str(options.run_dir)]
    begun = time.perf_counter()
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        print(f"server listens after {time.perf_counter() - begun:.2f} s")
        address = next(word for word in line.split() if word.startswith("http"))
        measure(address.rstrip("/"), options, psutil.Process(server.pid), begun)
    finally:
        server.terminate()
        writer.terminate()
        server.wait()
        writer.join()


def measure(address: str, options: argparse.Namespace, process: psutil.Process, begun: float) -> None:
    """Time every page, and print a table."""
    run_address, repeats = f"{address}/runs/{options.run_dir.name}", options.repeats
    seconds, size = fetch(run_address)
    print(
        f"first page: {seconds:.2f} s ({size:,} bytes), {time.perf_counter() - begun:.2f} s after the command started, "
        f"which needed {used(process):.2f} s of processor time so far"
    )
    worst = 0.0
    while True:
        with urllib.request.urlopen(run_address, timeout=60) as answer:
            text = answer.read().decode()
        worst = max(worst, fetch(f"{run_address}/leaderboard")[0])
        if "Reading the run" not in text:
            break
        time.sleep(0.05)
    print(
        f"the whole run has been read {time.perf_counter() - begun:.1f} s after the command started; "
        f"slowest page until then {worst:.2f} s"
    )
    print(f"memory: {process.memory_info().rss / 2**20:.0f} MiB\n")
    print(f"{'page':<34}{'CPU ms':>7}{'median ms':>10}{'slowest':>9}{'KiB':>7}")
    for name, path in PAGES.items():
        url = f"{address}/compare" if name == "comparison" else run_address + path
        url = url.replace("LAST", str(options.candidates - 1))
        before = used(process)
        results = [fetch(url) for _ in range(repeats)]
        times, spent = [1000 * seconds for seconds, _ in results], 1000 * (used(process) - before) / repeats
        print(f"{name:<34}{spent:>7.0f}{median(times):>10.0f}{max(times):>9.0f}{results[-1][1] / 1024:>7.0f}")
    peak = process.memory_info()
    print(f"\nmemory after all pages: {peak.rss / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
