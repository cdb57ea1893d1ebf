"""Utilisation of a device by a preset: tokens per second and share of peak, by batch and by number of workers.

    python benchmarks/utilisation.py --config gpu --batches 16 32 64 128 256 --workers 1 2 4 --json gpu.json
    python benchmarks/utilisation.py --config laptop --batches 8 32           # on a CPU: one core a worker

For every line of the table, worker processes start as in a search, each with its share of the device's memory. They
train the same program on random tokens at the same time. FLOPs are three times the forward FLOPs of the op table. They
include the tied output layer, but not recomputation or the optimizer. Peaks are those of dense bfloat16 products in the
vendors' data sheets, for every `model.precision`; `--peak-tflops` sets another peak. The file of `--json` is rewritten
after every line, so an interrupted run keeps its measurements.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import queue
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import jax
import numpy as np

from primer_search.benchmarks.options_and_hardware import benchmark_parser, hardware
from primer_search.configs.load import load
from primer_search.models.cost import model_cost
from primer_search.models.language_model import language_model
from primer_search.primitives import build_graph
from primer_search.primitives.errors import UsageError
from primer_search.primitives.programs import library
from primer_search.search.config import RunConfig
from primer_search.search.runs.provenance import versions
from primer_search.system.files import write_atomically
from primer_search.system.host import CAN_PIN, pin_process, usable_cores
from primer_search.workers.devices.discovery import resolve_platform
from primer_search.workers.devices.placement import WorkerResources
from primer_search.workers.protocol import error_summary
from primer_search.workers.training.device_stats import device_name, peak_memory_bytes
from primer_search.workers.training.steps.optimizer import make_optimizer
from primer_search.workers.training.steps.train_step import StepFunctions

PEAK_TFLOPS = {
    "A100": 312.0,
    "L4": 121.0,
    "L40S": 362.0,
    "H100": 989.0,
    "H100 PCIe": 756.0,
    "H200": 989.0,
    "TPU v4": 275.0,
    "TPU v5": 459.0,  # v5p, as JAX calls it
    "TPU v5 lite": 197.0,
    "TPU v6 lite": 918.0,
}
"""Peak by a part of JAX's device name; the longest match counts. Without another name, GPUs are SXM versions."""

CHUNK_SECONDS = 0.2
"""Time between two waits for the device, as in a trial."""

START_SECONDS = 600.0
"""Time limit for a worker to start and compile."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One program, batch and number of workers.

    Attributes:
        program: name of the program.
        batch: sequences in a step of a worker.
        workers: number of workers that share the device.
        outcome: `ok`, or a summary of the error.
        step_ms: mean time of a worker's step.
        tokens_per_second: throughput of all workers together.
        tflops: model FLOPs per second of all workers together, in 10^12.
        share_of_peak: share of the device's peak; None if that is unknown.
        compile_seconds: compile time of the slowest worker.
        memory_gib: highest memory peak of a worker on the device; None on a CPU.
        device: JAX's name of the device.
    """

    program: str
    batch: int
    workers: int
    outcome: str
    step_ms: float | None = None
    tokens_per_second: float | None = None
    tflops: float | None = None
    share_of_peak: float | None = None
    compile_seconds: float | None = None
    memory_gib: float | None = None
    device: str = ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, and print each reading as soon as it is measured."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        config = load(options.config, options.set)
        platform = resolve_platform(config.workers.accel)
        if options.json is not None:
            options.json.parent.mkdir(parents=True, exist_ok=True)
    except (UsageError, OSError) as error:
        parser.error(str(error))
    jax.config.update("jax_platforms", "cpu")  # this process leaves the device to its workers
    config = replace(config, workers=replace(config.workers, accel=platform))
    readings: list[Reading] = []
    print(f"{'program':<16} {'batch':>5} {'workers':>7} {'step ms':>8} {'tokens/s':>10} {'TFLOP/s':>8} {'of peak':>8}")
    for program in options.programs:
        for batch in options.batches or [config.trial.batch]:
            for workers in options.workers:
                sized = replace(config, trial=replace(config.trial, batch=batch))
                readings.append(measure(sized, program, workers, options.seconds, options.peak_tflops))
                print(_format_reading(readings[-1]), flush=True)
                if options.json is not None:
                    facts = _facts(config, readings, arguments)
                    write_atomically(options.json, json.dumps(facts, indent=1) + "\n")
    print(f"\n{_device(readings)}")


def measure(config: RunConfig, program: str, workers: int, seconds: float, peak_tflops: float | None = None) -> Reading:
    """Train one program in several processes at once, for some seconds, on `workers.accel`."""
    batch = config.trial.batch
    try:
        found = _worker_figures(config, program, workers, seconds)
    except _FailedError as failure:
        return Reading(program, batch, workers, str(failure))
    steps_per_second = sum(answer["steps"] / answer["seconds"] for answer in found)
    tokens_per_second = steps_per_second * batch * config.model.length
    tflops = tokens_per_second * training_flops_per_token(config, program) / 1e12
    device = found[0]["device"]
    peak = peak_tflops or device_peak(device)
    memory = [answer["memory_gib"] for answer in found if answer["memory_gib"] is not None]
    return Reading(
        program,
        batch,
        workers,
        "ok",
        step_ms=1000.0 * workers / steps_per_second,
        tokens_per_second=tokens_per_second,
        tflops=tflops,
        share_of_peak=None if peak is None else tflops / peak,
        compile_seconds=max(answer["compile_seconds"] for answer in found),
        memory_gib=max(memory, default=None),
        device=device,
    )


def device_peak(device: str) -> float | None:
    """Return a device's peak in 10^12 FLOPs per second by its name in JAX; None if it is unknown.

    >>> device_peak("NVIDIA H100 80GB HBM3"), device_peak("NVIDIA L40S"), device_peak("cpu x86_64")
    (989.0, 362.0, None)
    """
    known = [name for name in PEAK_TFLOPS if name in device]
    return PEAK_TFLOPS[max(known, key=len)] if known else None


def training_flops_per_token(config: RunConfig, program: str) -> float:
    """Return the FLOPs of the language model for a forward pass and a backward pass, which costs twice as much."""
    model = config.model
    return 3.0 * model_cost(library.get(program, model.unit), model, model.unit)["flops"]


class _FailedError(Exception):
    """Raised if a worker returns no results; the message is the reason, in one line."""


def _worker_figures(config: RunConfig, program: str, workers: int, seconds: float) -> list[dict[str, Any]]:
    """Run the workers, and return the figures of each."""
    context = multiprocessing.get_context("spawn")
    together, answers = context.Barrier(workers), context.Queue()
    processes = [
        context.Process(target=_work, args=(config, program, workers, number, seconds, together, answers), daemon=True)
        for number in range(workers)
    ]
    found: list[dict[str, Any]] = []
    latest = time.monotonic() + START_SECONDS + seconds
    for process in processes:
        process.start()
    try:
        while len(found) < workers:
            try:
                found.append(answers.get(timeout=1.0))
            except queue.Empty:
                if time.monotonic() > latest:
                    raise _FailedError(f"no answer within {START_SECONDS:g} s") from None
                if dead := [process.exitcode for process in processes if process.exitcode]:
                    raise _FailedError(f"a worker died with exit code {dead[0]}") from None
    finally:
        for process in processes:
            process.join(10.0 if len(found) == workers else 0.0)
            process.kill()
    if failed := [answer["error"] for answer in found if "error" in answer]:
        raise _FailedError(next((why for why in failed if "BrokenBarrier" not in why), failed[0]))
    return found


def _work(
    config: RunConfig, program: str, workers: int, number: int, seconds: float, together: Barrier, answers: Any
) -> None:
    """Run one worker: limit it to its share of the device before JAX's backend starts."""
    if config.workers.accel == "gpu":
        os.environ.update(WorkerResources("gpu", 1, workers).environment())
    elif config.workers.accel == "cpu":
        jax.config.update("jax_platforms", "cpu")
        if CAN_PIN:
            cores = usable_cores()
            pin_process((cores[number % len(cores)],))
    try:
        answers.put(_train(config, program, seconds, together))
    except Exception as error:  # noqa: BLE001 - any error is the outcome of this reading
        together.abort()
        answers.put({"error": error_summary(error)[:120]})


def _train(config: RunConfig, program: str, seconds: float, together: Barrier) -> dict[str, Any]:
    """Take steps at the same time as the other workers, and count them."""
    started = time.perf_counter()
    model_config = config.model
    graph = build_graph(library.get(program, model_config.unit), length_dependent=model_config.length_dependent)
    model, optimizer = language_model(graph, model_config), make_optimizer(config.optimizer)
    rng = np.random.default_rng(0)
    functions = StepFunctions(model, optimizer, config.trial.batch, config.optimizer.averaging)
    state = functions.initial_state(model.init(rng))
    functions.compile_step(state)
    compiled = time.perf_counter() - started
    tokens = functions.put(
        rng.integers(model_config.vocabulary, size=(config.trial.batch, model_config.length + 1)).astype(np.int32)
    )
    state = functions.place(state)

    def steps(count: int) -> float:
        nonlocal state
        start = time.perf_counter()
        for _ in range(count):
            state, _ = functions.step(state, tokens)
        jax.block_until_ready(state)
        return time.perf_counter() - start

    steps(2)
    chunk = max(1, round(CHUNK_SECONDS / steps(1)))
    together.wait(START_SECONDS)
    taken, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds:
        steps(chunk)
        taken += chunk
    spent = time.perf_counter() - begun
    memory = None if jax.default_backend() == "cpu" else peak_memory_bytes()
    return {
        "steps": taken,
        "seconds": spent,
        "compile_seconds": compiled,
        "device": device_name(),
        "memory_gib": None if memory is None else memory / 2**30,
    }


def _format_reading(reading: Reading) -> str:
    start = f"{reading.program:<16} {reading.batch:>5} {reading.workers:>7}"
    if reading.outcome != "ok":
        return f"{start}  {reading.outcome}"
    share = "" if reading.share_of_peak is None else f"{reading.share_of_peak:.1%}"
    return f"{start} {reading.step_ms:>8.2f} {reading.tokens_per_second:>10,.0f} {reading.tflops:>8.3f} {share:>8}"


def _facts(config: RunConfig, readings: Sequence[Reading], arguments: Sequence[str] | None) -> dict[str, Any]:
    """Return the content of the JSON file: command, hardware, versions, settings and readings."""
    about = {**hardware("utilisation.py", arguments), "clock": "wall clock", "device": _device(readings)}
    about["versions"] = versions()
    return {"about": about, "config": config.to_dict(), "readings": [asdict(reading) for reading in readings]}


def _device(readings: Sequence[Reading]) -> str:
    """Return the devices of the workers; for a CPU, the system's name, which is more precise than JAX's."""
    devices = dict.fromkeys(reading.device for reading in readings if reading.device)
    names = [hardware("utilisation.py")["device"] if device.startswith("cpu") else device for device in devices]
    return ", ".join(names) or "nothing ran"


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--config", default="laptop", metavar="PRESET|FILE", help="default: laptop")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a setting")
    parser.add_argument("--programs", nargs="+", default=["TRANSFORMER"], choices=library.names())
    parser.add_argument("--batches", nargs="+", type=int, help="sequences in a batch (default: the preset's)")
    parser.add_argument(
        "--workers", nargs="+", type=int, default=[1], help="numbers of processes that share the device"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of steps per line (default 10)")
    parser.add_argument("--peak-tflops", type=float, help="peak of the device (default: by its name)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    return parser


if __name__ == "__main__":
    main()
