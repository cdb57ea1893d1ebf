"""The command in this process, and runs made by hand, for the tests of what people see."""

from __future__ import annotations

import io
import json
import weakref
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import primer_search
from primer_search.cli.app import main
from primer_search.primitives.programs.library import get
from primer_search.search.evolution.candidate import Candidate, candidate_name
from primer_search.search.evolution.initial_programs import InitialProgram
from primer_search.search.runs.store import Store
from primer_search.workers.protocol import Evaluation, TrialRequest

PACKAGE = Path(primer_search.__file__).parent

CONFIG: dict[str, Any] = {
    "model": {"unit": 8, "length": 128, "length_dependent": False},
    "trial": {"unit": "cpu_seconds", "budget_seconds": 30.0, "budget_steps": 500},
    "data": {"source": "text:<script>alert(1)</script>"},
    "workers": {"executor": "inline", "count": 1, "accel": "cpu"},
}


@dataclass(frozen=True, slots=True)
class Result:
    """What a command left: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The whole of stdout as one JSON value."""
        return json.loads(self.out)


def command(*arguments: str | Path) -> Result:
    """Run the command with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Result(code, out.getvalue(), err.getvalue())


def refused(*arguments: str | Path) -> str:
    """Run the command, which must refuse its arguments with exit code 2 and one sentence; the sentence."""
    result = command(*arguments)
    assert result.code == 2, result
    assert result.err.startswith("primer-search: "), result.err
    assert result.err.count("\n") == 1, result.err
    assert "Traceback" not in result.err
    return result.err


def text_source(folder: Path) -> str:
    """Some real text: the modules of `primitives`, each a document."""
    folder.mkdir()
    for file in sorted((PACKAGE / "primitives").rglob("*.py")):
        (folder / f"{file.parent.name}-{file.stem}.txt").write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    return f"text:{folder}"


class HandmadeRun:
    """A run whose losses the test chooses; the baseline has three trials, 2.9, 3.0 and 3.1, unless told otherwise."""

    def __init__(self, path: Path, baseline_losses: tuple[float, ...] = (3.0, 2.9, 3.1)):
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.now, self.next = path, 1000.0, 1
        manifest = {"config": CONFIG, "workers": 1, "seed": 0, "budget_seconds": 600.0, "dataset_hash": "d" * 64}
        self.store = Store.create(path, manifest, clock=lambda: self.now)
        weakref.finalize(self, self.store.close)
        self.store.add_candidate(Candidate(0, get("TRANSFORMER", 8), None, (), "seed's hash"))
        for loss in baseline_losses:
            self.train(0, loss)

    def train(self, number: int, loss: float, outcome: str = "ok", step_ms: float = 20.0) -> None:
        """Let a trial end with a loss, in bits per byte half of it."""
        trial = self.store.next_trial_id()
        self.store.start_trial(TrialRequest(trial, number, "", seed=trial))
        self.now += 10.0
        full = outcome == "ok"
        stopped = (loss,) if outcome == "stopped_at_hurdle" else ()
        self.store.finish_trial(
            trial,
            Evaluation(
                outcome,
                "" if full else "said so",
                loss if full else None,
                loss / 2 if full else None,
                hurdle_losses=stopped,
                steps=300,
                step_ms=step_ms,
                parameters=165120,
                train_seconds=6.0,
                compile_seconds=2.0,
                wall_seconds=10.0,
            ),
        )

    def initial_program(self, initial_program: InitialProgram, loss: float) -> None:
        """Let an imported program be a candidate, the manifest aside, and train it."""
        self.next = initial_program.candidate_id + 1
        number, origin = initial_program.candidate_id, (initial_program.description,)
        self.store.add_candidate(Candidate(number, initial_program.dna, None, origin, f"hash {number}"))
        self.train(number, loss)

    def child(
        self,
        program: str,
        loss: float,
        outcome: str = "ok",
        mutation: str = "Delete in relu: x2 = ABS(h0)",
        parent: int = 0,
    ) -> int:
        """Propose a child, of the baseline unless told otherwise, and train it; its number."""
        number, self.next = self.next, self.next + 1
        statistics = {"mutations": 3, "invalid_widths": 1, "unchanged": 1}
        candidate = Candidate(
            number, get(program, 8), parent, ("Insert in relu: x2 = ABS(h0)", mutation), f"hash {number}"
        )
        self.store.add_candidate(candidate, statistics)
        self.train(number, loss, outcome)
        return number

    def confirm(self, number: int, bits: float) -> None:
        """Let three trainings with fresh random seeds end at about a loss on the test text, in bits per byte."""
        for seed in (10, 11, 12):
            each = bits + seed / 1000
            evaluation = Evaluation("ok", loss_nats=2 * each, bits_per_byte=each, test_loss_nats=2 * each,
                                    test_bits_per_byte=each, steps=300)  # fmt: skip
            self.store.add_event(
                "confirmed",
                {"name": candidate_name(number), "seed": seed, "budget": 30.0, "evaluation": evaluation.to_dict()},
                number,
            )
