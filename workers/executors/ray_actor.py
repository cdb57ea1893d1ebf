"""The Ray actor around a resident: on another machine it brings the package along.

Its class travels by value, so this module imports nothing but the standard library: where it lands, the package may
be missing, or be another version. It unpacks the driver's wheel into a folder named by the wheel's hash, once on
every machine, and puts it before whatever is installed there. The types of its methods are those of `WorkerProcess`.
"""

from __future__ import annotations

__all__ = ["Worker"]


class Worker:
    """A resident, reached through Ray; see `WorkerProcess` for the methods.

    Args:
        digest: hash of the wheel; empty where the package is at hand.
        wheel: the wheel, as built by the driver.
    """

    def __init__(self, digest: str = "", wheel: bytes = b""):
        if digest:
            self._unpack(digest, wheel)
        from importlib import import_module

        self._resident = import_module("primer_search.workers.executors.worker_process").WorkerProcess()

    @staticmethod
    def _unpack(digest: str, wheel: bytes) -> None:
        import io
        import os
        import shutil
        import sys
        import tempfile
        import zipfile
        from pathlib import Path

        cache = Path(tempfile.gettempdir()) / f"primer-search-{os.getuid()}"
        cache.mkdir(mode=0o700, exist_ok=True)
        if cache.stat().st_uid != os.getuid():
            raise PermissionError(f"{cache} belongs to somebody else; what lies there will not be run")
        target = cache / digest
        if not target.is_dir():
            draft = Path(tempfile.mkdtemp(dir=cache))
            with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
                archive.extractall(draft)
            try:
                draft.rename(target)
            except OSError:  # another worker was first
                shutil.rmtree(draft, ignore_errors=True)
        sys.path.insert(0, str(target))

    def home(self, *arguments):
        return self._resident.home(*arguments)

    def prepare(self, *arguments):
        return self._resident.prepare(*arguments)

    def run(self, *arguments):
        return self._resident.run(*arguments)

    def report(self):
        return self._resident.report()
