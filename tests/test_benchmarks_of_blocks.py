"""The benchmarks of blocks run with tiny settings, and their results appear in the table of docs/library.md."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from primer_search.benchmarks import code_size, decode_cost, exported_step, peer_step, utilisation
from primer_search.benchmarks.library_table import decode_results, library_markdown
from primer_search.benchmarks.paired_times import paired_ratio, run_interleaved, timed_run
from primer_search.configs import load
from primer_search.primitives.errors import UsageError
from primer_search.primitives.programs import library
from primer_search.primitives.programs.program_json import dna_to_json

TINY = ["--width", "16", "--layers", "1", "--contexts", "6", "--batches", "2", "--pairs", "3", "--all-cores"]


def test_alternatives_are_interleaved_and_every_other_round_is_reversed() -> None:
    order: list[str] = []

    def run(name: str) -> float:
        order.append(name)
        return float(len(order))

    times = run_interleaved({name: lambda name=name: run(name) for name in "abc"}, 3)
    assert "".join(order) == "abccbaabc"
    assert times["a"].tolist() == [1.0, 6.0, 7.0]


def test_a_ratio_is_of_pairs_so_that_a_slow_round_does_not_count() -> None:
    others = np.array([1.0, 1.0, 9.0, 1.0])
    ratio = paired_ratio(1.1 * others, others)
    assert ratio.low == pytest.approx(1.1) == ratio.median
    assert ratio.high == pytest.approx(1.1)


def test_an_interval_is_wider_where_pairs_differ() -> None:
    ratio = paired_ratio(np.array([0.8, 0.9, 1.0, 1.1, 1.2]), np.ones(5))
    assert 0.8 <= ratio.low < ratio.median == 1.0 < ratio.high <= 1.2


def test_short_steps_are_timed_several_at_once() -> None:
    steps = 0

    def step() -> np.ndarray:
        nonlocal steps
        steps += 1
        return np.sort(np.random.default_rng(0).random(20_000))

    run = timed_run(step, least_seconds=0.02, most_steps=7)
    before = steps
    assert 0 < run() < 1
    assert 1 < steps - before <= 7


@pytest.mark.slow
def test_the_exported_block_is_timed_beside_the_one_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "step.json"
    exported_step.main(["--size", "tiny", "--api", "nnx", "--pairs", "3", "--all-cores", "--json", str(file)])
    printed = capsys.readouterr().out
    found = json.loads(file.read_text(encoding="utf-8"))
    rows = {row["block"]: row for row in found["rows"]}
    assert set(rows) == {"compiled", "by hand, nnx", "exported, nnx"}
    assert all(row["milliseconds"] > 0 for row in rows.values())
    ratio = rows["exported, nnx"]["ratio"]
    assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
    assert rows["exported, nnx"]["same"] == (ratio["low"] <= 1 <= ratio["high"] or ratio["high"] < 1.02)
    assert 50 < found["lines"]["exported, nnx"] <= 1.1 * found["lines"]["by hand, nnx"]
    assert {"command", "device", "cores", "clock", "python", "jax", "flax"} <= set(found["about"])
    assert printed.startswith("$ python benchmarks/exported_step.py --size tiny")
    assert "exported, nnx" in printed and "logical lines: " in printed


@pytest.mark.slow
def test_programs_are_timed_beside_a_plain_decoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "peers.json"
    peer_step.main(["--sizes", "tiny", "--pairs", "3", "--all-cores", "--json", str(file)])
    rows = {row["model"]: row for row in json.loads(file.read_text(encoding="utf-8"))["rows"]}
    assert list(rows) == ["Flax NNX", "TRANSFORMER", "PRIMER_EZ", "TRANSFORMER by layer", "PRIMER_EZ by layer"]
    assert rows["Flax NNX"]["step_ratio"]["median"] == rows["Flax NNX"]["compile_ratio"] == 1
    assert all(row["compile_seconds"] > 0 and row["step_milliseconds"] > 0 for row in rows.values())
    assert rows["TRANSFORMER"]["flops_ratio"] == 1 < rows["PRIMER_EZ"]["flops_ratio"] < 1.5
    assert "$ python benchmarks/peer_step.py --sizes tiny" in capsys.readouterr().out
    with pytest.raises(UsageError, match="--nanodo"):
        peer_step.main(["--sizes", "tiny", "--nanodo", str(tmp_path), "--all-cores"])


def test_lines_that_a_class_is_written_in_are_those_it_uses(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    texts = {
        "block.py": "from .parts.layer import Layer, SIZE\nclass Block:\n    '''Doc.'''\n    layer = Layer(SIZE)\n",
        "parts/layer.py": "import math\nSIZE = 2\nclass Layer:\n    root = math.sqrt(SIZE)\nclass Other:\n    x = 1\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert code_size.logical_lines(tmp_path / "parts/layer.py") == 6
    assert code_size.lines_used(tmp_path / "block.py", "Block") == 2 + 1 + 2  # Block, SIZE, Layer


def test_decoding_is_timed_beside_the_transformers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "found.json"
    program.write_text(dna_to_json(library.get("TRANSFORMER_MDHA", 2)), encoding="utf-8")
    decode_cost.main(["TRANSFORMER", "PRIMER", str(program), *TINY])
    printed = capsys.readouterr().out
    assert "$ python benchmarks/decode_cost.py TRANSFORMER PRIMER" in printed
    timed_blocks = {tuple(line.split()[:2]) for line in printed.splitlines() if " 6     2 " in line}
    names = {("TRANSFORMER", "TransformerBlock"), ("PRIMER", "PrimerBlock")}
    assert timed_blocks == {(name, "DNABlock") for name in ("TRANSFORMER", "PRIMER", "found")} | names
    (cache,) = [line.split() for line in printed.splitlines() if line.startswith("found ") and "DNABlock" not in line]
    assert cache[2:] == ["128", "384", "64", "192"]  # keys and values of 16 channels; two inputs of three convolutions


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["PRIMER_E"], "did you mean PRIMER_EZ"),
        (["--width", "12"], "multiple of 8"),
        (["nowhere.json"], "nowhere.json"),
    ],
)
def test_wrong_use_is_one_sentence(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        decode_cost.main([*arguments, "--all-cores"])
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def document(**ratio: float) -> dict[str, object]:
    """What the benchmark writes, with one figure for PRIMER_EZ."""
    steps = [
        {"program": name, "kind": "DNABlock", "context": 512, "batch": 1, "milliseconds": 2.0, "ratio": own}
        for name, own in {"TRANSFORMER": dict.fromkeys(("median", "low", "high"), 1.0), "PRIMER_EZ": ratio}.items()
    ]
    about = {"command": "python benchmarks/decode_cost.py --write", "device": "a CPU", "cores": 1}
    about |= {"clock": "cpu time", "jax": "0.10"}
    return {"about": about, "settings": {"width": 512, "dtype": "float32"}, "steps": steps}


def test_results_are_kept_and_update_the_table_of_the_library(tmp_path: Path) -> None:
    results, page = tmp_path / "decode_cost.json", tmp_path / "library.md"
    page.write_text(f"before\n\n{library_markdown(decode_results(results))}\n\nafter\n", encoding="utf-8")
    assert "not measured" in page.read_text(encoding="utf-8")
    for median in (1.06, 1.07):
        decode_cost.write(document(median=median, low=1.01, high=1.12), "a table", results, page)
        shown = page.read_text(encoding="utf-8")
        assert library_markdown(decode_results(results)) in shown
        assert f"| {median} (1.01-1.12) |" in shown and "| 1 (2.00 ms) |" in shown
        assert "`python benchmarks/decode_cost.py --write` on a CPU" in shown.replace("\n", " ")
        assert shown.count("`PRIMER_EZ`") == 1 and shown.startswith("before\n") and shown.endswith("\nafter\n")
    assert results.with_suffix(".txt").read_text(encoding="utf-8") == "a table\n"


def test_a_table_that_is_not_of_the_previous_results_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "library.md"
    page.write_text("mine\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="previous results"):
        decode_cost.write(document(median=1.0, low=1.0, high=1.0), "", tmp_path / "decode_cost.json", page)
    assert page.read_text(encoding="utf-8") == "mine\n"


def test_figures_of_another_width_are_not_shown() -> None:
    other = document(median=1.06, low=1.01, high=1.12) | {"settings": {"width": 64, "dtype": "float32"}}
    assert library_markdown(other) == library_markdown(None)


def test_utilisation_counts_the_tokens_of_all_workers_and_names_what_failed(tmp_path: Path) -> None:
    file = tmp_path / "results" / "utilisation.json"
    small = ["--set", "model.layers=1", "--set", "model.unit=2", "--seconds", "0.3", "--peak-tflops", "1"]
    utilisation.main(["--config", "laptop", *small, "--workers", "2", "--batches", "4", "--json", str(file)])
    kept = json.loads(file.read_text())
    (reading,) = kept["readings"]
    assert kept["about"]["command"].startswith("python benchmarks/utilisation.py --config laptop")
    assert {"python", "jax", "optax"} <= set(kept["about"]["versions"])
    assert reading["outcome"] == "ok"
    tokens_per_step = 2 * 4 * 64  # of both workers
    assert reading["tokens_per_second"] == pytest.approx(1000 * tokens_per_step / reading["step_ms"])
    assert 0 < reading["share_of_peak"] == pytest.approx(reading["tflops"])
    config = load("laptop", ['optimizer.name="adafactor"', "trial.batch=1", "model.vocabulary=300"])
    failed = utilisation.measure(replace(config, model=replace(config.model, unit=10**9)), "TRANSFORMER", 1, 0.1)
    assert failed.outcome != "ok"
    assert failed.tokens_per_second is None


def test_utilisation_is_not_measured_where_the_device_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with pytest.raises(SystemExit) as caught:
        utilisation.main(["--config", "gpu"])
    assert caught.value.code == 2
    assert "--accel gpu: JAX sees no GPU on this machine" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA A100-SXM4-40GB", 312.0),
        ("NVIDIA L40S", 362.0),
        ("TPU v5 lite", 197.0),
        ("TPU v5", 459.0),
        ("NVIDIA T4", None),
    ],
)
def test_the_peak_is_that_of_the_longest_name(device: str, peak: float | None) -> None:
    assert utilisation.device_peak(device) == peak
