"""The Ray actor around a `WorkerProcess`. On another machine, it first installs the driver's package.

Ray sends the class by value, so this module imports only the standard library: the other machine may lack the package,
or have another version. The actor unpacks the driver's wheel into a folder named by the wheel's hash, once per machine,
and puts it first on the path. `WorkerProcess` documents the types of the methods.
"""

from __future__ import annotations

__all__ = ["Worker"]


class Worker:
    """A `WorkerProcess` that Ray can call.

    Args:
        digest: hash of the wheel; empty if the package is installed on this machine.
        wheel: content of the wheel, built by the driver.
    """

    def __init__(self, digest: str = "", wheel: bytes = b""):
        if digest:
            self._install(digest, wheel)
        from importlib import import_module

        self._process = import_module("primer_search.workers.executors.worker_process").WorkerProcess()

    @staticmethod
    def _install(digest: str, wheel: bytes) -> None:
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
            raise PermissionError(f"{cache} belongs to another user, so its content must not run here: remove it")
        target = cache / digest
        if not target.is_dir():
            unpacked = Path(tempfile.mkdtemp(dir=cache))
            with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
                archive.extractall(unpacked)
            try:
                unpacked.rename(target)
            except OSError:  # another worker was first
                shutil.rmtree(unpacked, ignore_errors=True)
        sys.path.insert(0, str(target))

    def host_info(self, *arguments):
        return self._process.host_info(*arguments)

    def prepare(self, *arguments):
        return self._process.prepare(*arguments)

    def run(self, *arguments):
        return self._process.run(*arguments)

    def report(self):
        return self._process.report()
