"""`check`: input that is not a DNA, programs that the language refuses, and the output for accepted programs."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from primer_search.primitives.programs import library
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.tests.support.command import command, refused

TRANSFORMER = json.loads(dna_to_json(library.get("TRANSFORMER")))


def altered(**changes: Any) -> dict[str, Any]:
    """The Transformer with keys of its first instruction changed."""
    dna = json.loads(json.dumps(TRANSFORMER))
    dna["subprograms"][0]["instructions"][0].update(changes)
    return dna


def doubling_calls(levels: int) -> dict[str, Any]:
    """Every subprogram calls the next one twice."""
    call = {"in1": 0, "in2": 1, "constant": 0, "dimension": 0, "branches": 1}
    bank = [{"name": f"s{level}", "instructions": [{"op": f"call:{level + 1}", **call}] * 2} for level in range(levels)]
    last = {"name": "leaf", "instructions": [{"op": "ABS", **call}]}
    return {"format": 1, "constants": [0.0], "dimensions": [8], "subprograms": [*bank, last]}


NO_DNA = {
    "text that is not JSON": "a block, please",
    "a list": "[]",
    "a cycle": json.dumps(altered(op="call:0")),
    "an unknown op": json.dumps(altered(op="SOFTMAX")),
    "an unknown field": json.dumps(altered(heads=8)),
    "an index out of range": json.dumps(altered(in1=77)),
    "an index out of range that the op ignores": json.dumps(altered(constant=77)),
    "a dimension of a billion": json.dumps({**TRANSFORMER, "dimensions": [10**9]}),
    "a number that is none": json.dumps({**TRANSFORMER, "constants": [math.nan]}),
    "forty levels of doubling calls": json.dumps(doubling_calls(40)),
    "deep brackets": "[" * 100_000,
}


@pytest.mark.parametrize("fault", NO_DNA)
def test_what_is_no_dna_is_refused_in_one_sentence(fault: str, tmp_path: Path) -> None:
    file = tmp_path / "dna.json"
    file.write_text(NO_DNA[fault])
    assert "dna.json is not DNA: " in refused("check", file)
    result = command("check", file, "--json")
    assert (result.code, result.json["accepted"], result.json["reason"]) == (2, False, "malformed")


def test_bytes_that_are_no_text_are_no_dna(tmp_path: Path) -> None:
    file = tmp_path / "dna.json"
    file.write_bytes(b"\xff\xfe{}")
    assert "UTF-8" in refused("check", file)


def test_check_tells_identity_and_cost_of_an_accepted_program() -> None:
    result = command("check", "PRIMER_EZ", "--config", "smoke", "--json")
    checked = result.json
    assert (result.code, checked["accepted"], checked["reason"]) == (0, True, None)
    assert len(checked["structure_hash"]) == len(checked["fingerprint"]) == 32
    assert 0 < checked["block_parameters"] < checked["parameters"]
    assert checked["flops_per_token"] > 0


def test_check_reads_a_file_and_standard_input_alike(tmp_path: Path) -> None:
    text = dna_to_json(library.get("PRIMER_EZ", 8, heads=2))  # the heads of the preset laptop
    file = tmp_path / "dna.json"
    file.write_text(text)
    from_file = command("check", file, "--json").json
    arguments = [sys.executable, "-m", "primer_search", "check", "-", "--json"]
    piped = subprocess.run(arguments, input=text, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(piped.stdout) == from_file == command("check", "PRIMER_EZ", "--json").json


def one_op(op: str, **fields: int) -> dict[str, Any]:
    """A program of one instruction."""
    instruction = {"op": op, "in1": 0, "in2": 1, "constant": 0, "dimension": 0, "branches": 1, **fields}
    bank = [{"name": "main", "instructions": [instruction]}]
    return {"format": 1, "constants": [0.0], "dimensions": [8], "subprograms": bank}


REFUSED = {"kinds": one_op("T_MAT_MUL"), "finiteness": one_op("EXP"), "causality": TRANSFORMER}


def refused_program(reason: str) -> dict[str, Any]:
    """A well-formed program that the language refuses for this reason."""
    dna = json.loads(json.dumps(REFUSED[reason]))
    if reason == "causality":  # attention without its mask
        softmax = next(subprogram for subprogram in dna["subprograms"] if subprogram["name"] == "softmax")
        mask = next(instruction for instruction in softmax["instructions"] if instruction["op"] == "MASK")
        mask["op"] = "ABS"
    if reason == "finiteness":  # exp(exp(exp(exp(x))))
        dna["subprograms"][0]["instructions"] += [
            {**dna["subprograms"][0]["instructions"][0], "in1": k} for k in (2, 3, 4)
        ]
    return dna


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("reason", REFUSED)
def test_check_exits_1_for_a_dna_that_the_language_refuses(reason: str, tmp_path: Path) -> None:
    file = tmp_path / "dna.json"
    file.write_text(json.dumps(refused_program(reason)))
    result = command("check", file, "--json")
    assert (result.code, result.json["accepted"], result.json["reason"]) == (1, False, reason)
    assert result.json["message"]
    assert result.json["fingerprint"] is None
    said = command("check", file)
    assert (said.code, said.err) == (1, "")
    assert said.out.startswith(f"refused ({reason}): ")


def test_a_program_too_large_to_probe_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    giant = one_op("CONV_31X1", branches=16)
    giant["dimensions"] = [64]
    giant["subprograms"][0]["instructions"] *= 2
    giant["subprograms"][0]["instructions"][1] = {**giant["subprograms"][0]["instructions"][0], "in1": 2}
    file = tmp_path / "dna.json"
    file.write_text(json.dumps(giant))
    result = command("check", file, "--json")
    assert (result.code, result.json["reason"]) == (1, "parameters")
