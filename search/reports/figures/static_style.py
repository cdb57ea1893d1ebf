"""Style of the plots that matplotlib draws, and functions that write them to files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....primitives.errors import UsageError
from ....system.files import replacement
from .plot_style import INK, LIGHT_GRAY

if TYPE_CHECKING:  # loads matplotlib
    from matplotlib.figure import Figure

__all__ = ["legend_above", "new_axes", "plot_files", "write_files", "write_plots"]

DOTS_PER_INCH = 160

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LIGHT_GRAY,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e4e7eb",
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.hashsalt": "primer-search",
}


def new_axes(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    """Return an empty figure of a size in inches, and its axes: one, or an array of several side by side.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ModuleNotFoundError:
        raise UsageError("figures as files need matplotlib, which is not installed: pip install matplotlib") from None
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
        return figure, figure.subplots(1, columns)


def legend_above(figure: Figure, axes: Any, columns: int = 2) -> None:
    """Put the legend of the axes above the figure."""
    import matplotlib

    handles, labels = axes.get_legend_handles_labels()
    with matplotlib.rc_context(_STYLE):
        if labels:
            figure.legend(handles, labels, loc="outside upper left", ncols=min(columns, len(labels)))


def write_plots(plots: Mapping[str, Figure | None], folder: Path) -> list[Path]:
    """Write figures as SVG and PNG into a folder, which is created if it does not exist, and return their paths.

    Raises:
        UsageError: the folder cannot be written.
    """
    return write_files(plot_files(plots), folder)


def plot_files(plots: Mapping[str, Figure | None]) -> dict[str, bytes]:
    """Return the SVG and the PNG of figures, by file name; equal figures give equal files."""
    return {
        f"{name}.{form}": _content(figure, form)
        for name, figure in plots.items()
        if figure is not None
        for form in ("svg", "png")
    }


def write_files(files: Mapping[str, bytes], folder: Path) -> list[Path]:
    """Write files by name into a folder, which is created if it does not exist, and return their paths.

    Raises:
        UsageError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with replacement(folder / name) as temporary:
                temporary.write_bytes(content)
    except OSError as error:
        raise UsageError(f"cannot write figures to {folder}: {error.strerror or error}; name another folder") from error
    return [folder / name for name in files]


def _content(figure: Figure, form: str) -> bytes:
    """Return a figure as a file; equal figures give equal files."""
    import matplotlib

    file = io.BytesIO()
    metadata = {"Date": None} if form == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "primer-search", "svg.fonttype": "path"}):
        figure.savefig(file, format=form, dpi=DOTS_PER_INCH, metadata=metadata, facecolor="white")
    return file.getvalue()
