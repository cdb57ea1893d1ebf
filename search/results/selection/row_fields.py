"""The fields of a leaderboard row: names with units, used as columns of CSV, sort keys and names in conditions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ....primitives.errors import UsageError
from ....primitives.suggestions import did_you_mean
from ..confirmation import Confirmation
from ..leaderboard_rows import LeaderboardRow

__all__ = ["FIELDS", "Cell", "RowField", "RunRow", "find_field"]

Cell = bool | int | float | str | None
"""Value of a field; None if it is not known."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One row of the leaderboard of one of several runs.

    Attributes:
        run: name of the run.
        row: row of the candidate, compared with the run's own baseline.
        confirmation: result of its retraining; None if it was not retrained.
        origin: origin of an imported initial program; None for other candidates.
    """

    run: str
    row: LeaderboardRow
    confirmation: Confirmation | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class RowField:
    """One field of a row.

    Attributes:
        name: name in CSV, with the unit.
        kind: type of its values.
        read: function from a row to the value.
        about: description, one line.
        short: second name for the command line; empty if there is none.
        highest_first: whether a sorted table begins with the highest value.
    """

    name: str
    kind: Literal["number", "text", "flag"]
    read: Callable[[RunRow], Cell]
    about: str
    short: str = ""
    highest_first: bool = False


def _number(name: str, about: str, short: str = "", highest_first: bool = False) -> RowField:
    return RowField(name, "number", lambda each: getattr(each.row, name), about, short, highest_first)


def _text(name: str, about: str) -> RowField:
    return RowField(name, "text", lambda each: getattr(each.row, name), about)


def _flag(name: str, read: Callable[[RunRow], bool | None], about: str, highest_first: bool = True) -> RowField:
    return RowField(name, "flag", read, about, "", highest_first)


def _test(name: str, read: Callable[[Confirmation], Cell], about: str) -> RowField:
    def value(each: RunRow) -> Cell:
        return None if each.confirmation is None else read(each.confirmation)

    return RowField(name, "number", value, about)


def _bound(view: str, part: str) -> Callable[[Confirmation], float | None]:
    """Return a function from a confirmation to the mean or a bound of one of its differences."""

    def value(confirmation: Confirmation) -> float | None:
        estimate = getattr(confirmation, view)
        return None if estimate is None else getattr(estimate, part)

    return value


FIELDS = (
    RowField("run", "text", lambda each: each.run, "name of the run"),
    _number("rank", "rank in its run; none without a full training"),
    _number("id", "number of the candidate"),
    _number("parent", "number of the parent"),
    RowField("origin", "text", lambda each: each.origin, "origin of an imported initial program"),
    _text("outcome", "how the last training ended: ok, stopped_at_hurdle, rejected:..., non_finite, ..."),
    _text("verdict", "comparison with the baseline in words"),
    _flag("better", lambda each: each.row.better, "better than the run's baseline by more than the noise"),
    _flag("inside_noise", lambda each: each.row.inside_noise, "difference within the baseline's noise", False),
    _number("loss_nats", "validation loss, nats per token", "loss"),
    _number("bits_per_byte", "validation loss, bits per byte", "bits"),
    _number("word_perplexity", "validation perplexity per word"),
    _number("delta_nats", "loss minus the baseline's after the same training, nats per token"),
    _number("delta_bits_per_byte", "this difference in bits per byte; column `vs baseline`", "vs_baseline"),
    _number("equal_time_delta_nats", "loss minus the baseline's after the same time, nats per token"),
    _number("equal_time_delta_bits_per_byte", "this difference in bits per byte; column `equal time`", "equal_time"),
    _number("ranking_delta_bits_per_byte", "the worse of the two differences, bits per byte", "difference"),
    _number("noise_multiple", "difference in multiples of the baseline's noise", "noise"),
    _number("price", "step time relative to the baseline's; below 1 is faster"),
    _number("speed", "inverse of the price; above 1 is faster", highest_first=True),
    _number("step_ms", "time of a training step, milliseconds"),
    _number("parameters", "parameters of the model"),
    _number("block_parameters", "parameters of one block"),
    _number("flops_per_token", "forward FLOPs of one block per token", "flops"),
    _number("trials", "trainings that the row averages"),
    _number("diverged", "trainings that diverged"),
    _number("steps", "training steps"),
    _number("tokens", "training tokens"),
    _number("epochs", "times that the training read the text"),
    _number("stopped_at_hurdle", "hurdle that stopped the candidate, from 1", "hurdle"),
    _number("hurdle_loss_nats", "loss at that hurdle, nats per token"),
    _flag("confirmed", lambda each: not each.row.unconfirmed, "retrained with fresh seeds, scored on the test text"),
    _flag(
        "confirmed_better",
        lambda each: None if each.confirmation is None else each.confirmation.better,
        "confirmed to be better than the baseline, at equal time too if that is known",
    ),
    _test("test_trainings", lambda each: each.trainings - each.failed, "retrainings with a loss"),
    _test("test_loss_nats", lambda each: each.test_loss_nats, "mean test loss, nats per token"),
    _test("test_bits_per_byte", lambda each: each.test_bits_per_byte, "mean test loss, bits per byte"),
    _test("test_delta_bits_per_byte", _bound("difference", "mean"), "difference to the baseline on the test text"),
    _test(
        "test_delta_bits_per_byte_low", _bound("difference", "low"), "lower end of the 95% interval of this difference"
    ),
    _test(
        "test_delta_bits_per_byte_high",
        _bound("difference", "high"),
        "upper end of the 95% interval of this difference",
    ),
    _test(
        "test_equal_time_delta_bits_per_byte",
        _bound("equal_time_difference", "mean"),
        "difference to the baseline on the test text at equal time",
    ),
    _test(
        "test_equal_time_delta_bits_per_byte_low",
        _bound("equal_time_difference", "low"),
        "lower end of its 95% interval",
    ),
    _test(
        "test_equal_time_delta_bits_per_byte_high",
        _bound("equal_time_difference", "high"),
        "upper end of its 95% interval",
    ),
    _test("test_price", lambda each: each.price, "price measured in the retrainings"),
    _text("structure_hash", "hash of the canonical program"),
)
"""All fields, in the order of the columns of CSV."""

_BY_NAME = {name: each for each in FIELDS for name in (each.name, each.short) if name}


def find_field(name: str, option: str) -> RowField:
    """Return the field with a name or short name; `-` and `_` are the same.

    Args:
        name: name that the user gave.
        option: command option with the name, for the message.

    Raises:
        UsageError: there is no such field; the message lists all.
    """
    field = _BY_NAME.get(name.strip().replace("-", "_").casefold())
    if field is None:
        known = ", ".join(each.short or each.name for each in FIELDS)
        hint = did_you_mean(name, _BY_NAME, "")
        raise UsageError(f"{option}: unknown field {name[:40]!r}{hint} (fields: {known})")
    return field
