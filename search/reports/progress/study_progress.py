"""Progress of a study: a live panel on a terminal, a line for each finished training elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ....primitives.errors import UsageError
from ....system.durations import format_duration
from ....system.output_capture import redirect_output
from ....system.signals import interrupt_on_termination
from ...studies.study import StudyOptions
from ..formatting import format_number
from .display import LinePrinter, LivePanel, WorkerTable, choose_display

if TYPE_CHECKING:  # rich is loaded when a table is drawn
    from rich.console import RenderableType

    from ...studies.study_queue import StudyState, Training

__all__ = ["StudyLines", "StudyPanel", "show_study_progress"]

_BAR_COLUMNS = 24


@contextmanager
def show_study_progress(folder: Path, address: str | None, quiet: bool = False) -> Iterator[StudyOptions]:
    """Show a study's progress on stderr and yield its options; what libraries print goes to `log.txt`.

    Args:
        folder: output folder of the study.
        address: address of a running Ray cluster.
        quiet: whether to show nothing.

    Raises:
        UsageError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot create the folder {folder}: {error.strerror}; choose another with -o") from error
    with (
        interrupt_on_termination() as interruption,
        redirect_output(folder / "log.txt") as terminal,
        choose_display(terminal, StudyPanel, StudyLines, quiet) as display,
    ):
        check_before = interruption.check_before
        yield StudyOptions(address, observe=check_before(display.observe), tell=check_before(display.tell))


class StudyLines(LinePrinter["StudyState"]):
    """A line for each training that ends."""

    def __init__(self, stream: TextIO):
        super().__init__(stream)
        self._done: int | None = None

    def observe(self, state: StudyState) -> None:
        if self._done is None and state.done:
            self.tell(f"{state.done} of {state.total} trainings are already in the log")
        elif self._done is not None and state.done > self._done and state.last is not None:
            unknown = state.seconds_left is None or state.done == state.total
            left = "" if unknown else f", about {format_duration(state.seconds_left or 0.0)} left"
            self.tell(f"{state.done}/{state.total}  {format_training(state.last)}{left}")
        self._done = state.done


class StudyPanel(LivePanel["StudyState"]):
    """A bar for all trainings, the busy workers, and the last results."""

    def draw(self, state: StudyState, seconds: float) -> list[RenderableType]:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        left = None if state.seconds_left is None else max(state.seconds_left - seconds, 0.0)
        head = Table.grid(padding=(0, 2))
        head.add_row(
            ProgressBar(total=max(state.total, 1), completed=state.done, width=_BAR_COLUMNS),
            f"{state.done} of {state.total} trainings",
            "" if left is None else f"[dim]about {format_duration(left)} left[/]",
        )
        return [head]

    def draw_workers(self, state: StudyState) -> RenderableType:
        working = [worker for worker in state.workers if worker.trial_id is not None]
        return WorkerTable(working, lambda number: state.names[number])

    def format_event(self, state: StudyState) -> str:
        assert state.last is not None
        return format_training(state.last)


def format_training(training: Training) -> str:
    """Format a finished training."""
    result, arm = training.evaluation, training.arm
    rate = "" if arm.learning_rate_factor == 1.0 else f", learning rate × {arm.learning_rate_factor:g}"
    if result.outcome != "ok":
        return f"{arm.name} (seed {training.seed}{rate}): {result.outcome}"
    split = "validation" if result.test_loss_nats is None else "test"
    nats, bits = (
        (result.loss_nats, result.bits_per_byte)
        if result.test_loss_nats is None
        else (result.test_loss_nats, result.test_bits_per_byte)
    )
    loss = f"{format_number(nats)} nats" if bits is None else f"{format_number(bits)} bits/byte"
    return f"{arm.name} (seed {training.seed}{rate}): {loss} on {split}"
