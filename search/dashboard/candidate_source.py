"""The Flax source of a candidate, exported on demand by a separate process.

The export compiles the block and compares it with the program. This takes seconds and, for JAX, several hundred
megabytes. A separate process does it, one at a time, so the server stays small and fast. The last few sources are kept.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

from ...primitives.errors import UsageError, WorkFailedError

__all__ = ["candidate_source"]

TIMEOUT_SECONDS = 300.0
KEPT = 16
"""Number of exported sources that the server keeps in memory."""

_exporting = Lock()
_kept: OrderedDict[tuple[Path, int, str], str] = OrderedDict()


def candidate_source(run: Path, candidate_id: int, api: str) -> str:
    """Return the source of a candidate's block, as `primer-search export` writes it.

    Args:
        run: directory of the run.
        candidate_id: id of the candidate.
        api: Flax API, `nnx` or `linen`.

    Raises:
        WorkFailedError: the export failed.
        UsageError: another export is still running after `TIMEOUT_SECONDS`.
    """
    key = (run, candidate_id, api)
    if not _exporting.acquire(timeout=TIMEOUT_SECONDS):
        raise UsageError("another block is being exported: try again in a minute")
    try:
        if key not in _kept:
            _kept[key] = _export(run, candidate_id, api)
            while len(_kept) > KEPT:
                _kept.popitem(last=False)
        return _kept[key]
    finally:
        _exporting.release()


def _export(run: Path, candidate_id: int, api: str) -> str:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "block.py"
        command = [sys.executable, "-m", "primer_search", "export", str(run), str(candidate_id), "--api", api]
        try:
            ended = subprocess.run(
                [*command, "-o", str(path)],
                env={**os.environ, "JAX_PLATFORMS": "cpu"},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise WorkFailedError(
                f"exporting candidate {candidate_id} took longer than {TIMEOUT_SECONDS:g} s: run primer-search export"
            ) from None
        if ended.returncode or not path.exists():
            reason = ended.stderr.strip().splitlines()[-1:] or ["no reason given"]
            raise WorkFailedError(
                f"candidate {candidate_id} was not exported: {reason[0].removeprefix('primer-search: ')}"
            )
        return path.read_text(encoding="utf-8")
