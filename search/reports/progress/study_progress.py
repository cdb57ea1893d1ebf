"""A study on the console: a live table on a terminal, a line for each finished training elsewhere.

`watched` is what commands use: it points the noise of libraries at a log beside the results, as a search does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ....primitives.errors import UsageError
from ....system.durations import format_duration
from ....system.output_capture import redirect_output
from ....system.signals import interrupt_on_termination
from ...studies.study import StudyOptions
from ..phrases import number

if TYPE_CHECKING:  # rich is loaded when a table is drawn
    from rich.console import RenderableType

    from ...studies.study_queue import StudyState, Training

__all__ = ["LineStudyDisplay", "LiveStudyDisplay", "StudyDisplay", "make_study_display", "watched"]

_BAR = 24
_EVENTS = 5
_WORKERS = 16


@contextmanager
def watched(folder: Path, address: str | None) -> Iterator[StudyOptions]:
    """Show a study's progress on stderr, and yield the options to run it with; libraries print to `log.txt`.

    Args:
        folder: output folder of the study.
        address: address of a running Ray cluster.

    Raises:
        UsageError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}: {error.strerror}; choose another with -o.") from error
    with (
        interrupt_on_termination() as interruption,
        redirect_output(folder / "log.txt") as terminal,
        make_study_display(terminal) as display,
    ):
        check_before = interruption.check_before
        yield StudyOptions(address, observe=check_before(display.observe), tell=check_before(display.tell))


def make_study_display(stream: TextIO) -> StudyDisplay:
    """The display that suits a stream."""
    return LiveStudyDisplay(stream) if stream.isatty() else LineStudyDisplay(stream)


class LineStudyDisplay:
    """A line for each training that ends."""

    def __init__(self, stream: TextIO):
        self.stream = stream
        self._done: int | None = None

    def observe(self, state: StudyState) -> None:
        """Take in where the study stands."""
        if self._done is None and state.done:
            self.tell(f"{state.done} of {state.total} trainings are in the record already")
        elif self._done is not None and state.done > self._done and state.last is not None:
            left = (
                ""
                if state.seconds_left is None or state.done == state.total
                else f", about {format_duration(state.seconds_left)} left"
            )
            self.tell(f"{state.done}/{state.total}  {format_training(state.last)}{left}")
        self._done = state.done

    def tell(self, line: str) -> None:
        """Say something about the preparations."""
        print(line, file=self.stream, flush=True)

    def __enter__(self) -> LineStudyDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class LiveStudyDisplay:
    """A bar, what each worker trains, and the last few results, drawn anew four times a second."""

    def __init__(self, stream: TextIO):
        from rich.console import Console
        from rich.live import Live

        self._state: StudyState | None = None
        self._seen_at = time.monotonic()
        self._told = ""
        self._events: list[str] = []
        self._live = Live(
            console=Console(file=stream, highlight=False, emoji=False),
            get_renderable=self.panel,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def observe(self, state: StudyState) -> None:
        """Take in where the study stands."""
        before = None if self._state is None else self._state.last
        if state.last is not None and state.last is not before:
            self._events = [*self._events, format_training(state.last)][-_EVENTS:]
        self._state, self._seen_at = state, time.monotonic()

    def tell(self, line: str) -> None:
        """Say something about the preparations."""
        self._told = line

    def panel(self) -> RenderableType:
        """What is drawn."""
        from rich.console import Group
        from rich.text import Text

        state = self._state
        if state is None:
            return Text(self._told or "starting", style="dim")
        share = state.done / max(state.total, 1)
        filled = round(_BAR * share)
        since = time.monotonic() - self._seen_at
        left = None if state.seconds_left is None else max(state.seconds_left - since, 0.0)
        lines = [
            Text.assemble(
                ("━" * filled, "green"),
                ("━" * (_BAR - filled), "dim"),
                f"  {state.done} of {state.total} trainings",
                ("" if left is None else f"  about {format_duration(left)} left", "dim"),
            )
        ]
        for worker in [worker for worker in state.workers if worker.trial_id is not None][:_WORKERS]:
            name = "" if worker.candidate_id is None else state.names[worker.candidate_id]
            spent = f" {worker.spent / worker.budget:.0%}" if worker.budget else ""
            lines.append(Text(f"  {name}: {worker.phase}{spent}  {number(worker.loss_nats)}", style="dim"))
        return Group(*lines, *(Text(f"  {event}") for event in self._events))

    def __enter__(self) -> LiveStudyDisplay:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()


StudyDisplay = LineStudyDisplay | LiveStudyDisplay
"""Where progress goes; a context manager."""


def format_training(training: Training) -> str:
    """A finished training in a few words."""
    result, arm = training.evaluation, training.arm
    rate = "" if arm.learning_rate_factor == 1.0 else f", learning rate × {arm.learning_rate_factor:g}"
    if result.outcome != "ok":
        return f"{arm.name} (seed {training.seed}{rate}): {result.outcome}"
    bits = result.bits_per_byte if result.test_bits_per_byte is None else result.test_bits_per_byte
    split = "validation" if result.test_bits_per_byte is None else "test"
    return f"{arm.name} (seed {training.seed}{rate}): {number(bits)} bits/byte on {split}"
