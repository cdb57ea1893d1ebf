"""The package as a wheel, for the workers of a cluster: built by the driver, unpacked once on every machine.

A wheel of pure Python is a zip with a `dist-info` (PEP 427), so the standard library makes it: no network, no build
tools, the same from a checkout, an editable install or an installed wheel. It is not handed to Ray's `py_modules`,
which would run `pip install --target`: that needs a pip on the path of Ray's daemon, installs every dependency anew
(`--target` ignores what is there), and knows wheels by their names, so that a changed one goes unseen. Here the hash
of the content is part of the version.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["Wheel", "build_wheel"]

_ROOT = Path(__file__).parents[2]
_FOLDERS = ("primitives", "system", "models", "workers", "search", "configs")
_SUFFIXES = frozenset({".py", ".toml", ".css", ".j2"})
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every entry, so that equal files make equal wheels."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A built wheel.

    Attributes:
        name: its file's name, which pip accepts.
        digest: hash of what it holds.
        content: the file.
    """

    name: str
    digest: str
    content: bytes


def build_wheel() -> Wheel:
    """The package that runs here, as a wheel without dependencies: those are the cluster's to have."""
    files = {f"primer_search/{path.relative_to(_ROOT).as_posix()}": path.read_bytes() for path in _files()}
    digest = _digest(files.items())
    release = f"{_version()}+{digest}"
    info = f"primer_search-{release}.dist-info"
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: primer-search\nVersion: {release}\n".encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: primer-search\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    return Wheel(f"primer_search-{release}-py3-none-any.whl", digest, _zipped(files))


def _files() -> list[Path]:
    """Every file of the package, sorted; at the root of a checkout lie others, too."""
    found = list(_ROOT.glob("*.py"))
    for folder in _FOLDERS:
        found += [path for path in (_ROOT / folder).rglob("*") if path.suffix in _SUFFIXES and path.is_file()]
    return sorted(path for path in found if "__pycache__" not in path.parts)


def _version() -> str:
    try:
        return version("primer-search").partition("+")[0]
    except PackageNotFoundError:
        return "0"


def _digest(files: Iterable[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256()
    for name, content in files:
        digest.update(f"{name}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def _record(files: dict[str, bytes], itself: str) -> bytes:
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    return "\n".join([*lines, f"{itself},,", ""]).encode()


def _zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()
