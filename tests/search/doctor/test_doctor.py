"""The doctor finds this machine fit, and says which check failed where one does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from primer_search.primitives.programs import library
from primer_search.search.doctor import checks, leaky_programs
from primer_search.search.doctor.environment import clock_finding, environment_findings
from primer_search.search.doctor.leaky_blocks import LEAKY_BLOCKS, LeakyBlock
from primer_search.search.doctor.leaky_programs import LEAKY_PROGRAMS, LeakyProgram
from primer_search.tests.support.command import HandmadeRun, command


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_quick_command_finds_all_as_it_should_be(cache: Path) -> None:
    result = command("doctor", "--quick")
    assert result.code == 0, result
    for name in (*LEAKY_PROGRAMS, *library.names(), "Python", "JAX", "Ray", "data cache", "free disk", "CPU clock"):
        assert name in result.out
    assert "failed" not in result.out
    assert f"{len(LEAKY_PROGRAMS)} leaky programs" in result.err


def test_beside_a_running_search_the_accelerator_is_left_alone(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu,tpu")
    run = HandmadeRun(tmp_path / "runs" / "busy")
    result = command("doctor", "--quick")
    assert "runs/busy is searching: the checks run on the CPU" in result.err
    assert os.environ["JAX_PLATFORMS"] == "cpu"
    run.store.close()
    assert "is searching" not in command("doctor", "--quick").err


def test_json_is_one_object_with_every_finding(cache: Path) -> None:
    result = command("doctor", "--quick", "--json")
    assert result.code == 0
    assert result.json["healthy"] is True
    assert result.json["failed"] == []
    verdicts = {finding["check"]: finding["verdict"] for finding in result.json["findings"]}
    assert [verdicts[name] for name in LEAKY_PROGRAMS] == ["refused"] * len(LEAKY_PROGRAMS)
    assert [verdicts[name] for name in library.names()] == ["accepted"] * len(library.names())
    assert all(finding["reason"] for finding in result.json["findings"])


def test_a_program_that_gets_through_is_named_and_the_exit_code_is_1(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harmless = replace(LEAKY_PROGRAMS["unmasked softmax"], name="wolf", dna=library.TRANSFORMER)
    monkeypatch.setitem(leaky_programs.LEAKY_PROGRAMS, "wolf", harmless)
    result = command("doctor", "--quick")
    assert result.code == 1
    assert result.err.splitlines()[-1].endswith(" checks failed: wolf")
    assert "it got through: attention without a mask" in " ".join(result.out.split())


@pytest.mark.parametrize(
    ("leaky", "words"),
    [
        (replace(LEAKY_PROGRAMS["leak of 1e-14"], refused_by=("proof", "test")), "got through the test, though not"),
        (
            replace(LEAKY_PROGRAMS["transposed mask"], reason="causality"),
            "refused for kinds, but its fault is causality",
        ),
    ],
)
def test_a_program_refused_by_too_few_or_for_another_reason_fails(leaky: LeakyProgram, words: str) -> None:
    (finding,) = checks.leaky_program_findings([leaky])
    assert finding.failed
    assert words in finding.reason


def test_a_block_that_gets_through_or_is_caught_elsewhere_fails() -> None:
    honest = LeakyBlock("honest", "does not cheat at all", lambda gate, x: x * gate)
    early = replace(LEAKY_BLOCKS["reads the next token"], refused_by="recheck")
    right = LEAKY_BLOCKS["its neighbour's first token"]
    findings = list(checks.leaky_block_findings([honest, early, right]))
    assert [finding.verdict for finding in findings] == ["failed", "failed", "refused"]
    assert "got through" in findings[0].reason
    assert "by the probe, but should be for causality by the recheck" in findings[1].reason
    assert findings[2].reason.startswith("batch, by the recheck: ")


def test_a_library_program_is_accepted_in_the_language_model_and_a_cheat_there_would_not_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (finding,) = checks.library_findings(["TRANSFORMER"])
    assert finding.verdict == "accepted"
    cheat = LEAKY_PROGRAMS["unmasked softmax"].dna
    assert "causality" in checks.library_refusal(cheat, in_model=False)
    monkeypatch.setattr(checks, "check_causality", lambda graph: None)  # as if proof and test were broken
    assert "by the probe" in checks.library_refusal(cheat, in_model=True)


@pytest.mark.parametrize(
    ("readings", "verdict"),
    [
        (count(0, 0.001), "ok"),
        (count(0, 0.1), "warning"),
        (count(0, -0.001), "failed"),
        (count(5, 0), "failed"),
    ],
    ids=["goes on", "coarse", "goes back", "stands still"],
)
def test_a_clock_is_judged_by_its_steps(readings: Sequence[float], verdict: str) -> None:
    assert clock_finding("clock", lambda: next(readings)).verdict == verdict  # type: ignore[call-overload]


def test_a_cache_that_cannot_be_written_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path / "file" / "cache"))
    failed = [finding for finding in environment_findings() if finding.failed]
    assert [finding.check for finding in failed] == ["data cache"]
    assert "set PRIMER_SEARCH_CACHE" in failed[0].reason
