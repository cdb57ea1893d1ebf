"""The package as a wheel for the workers of a cluster. The driver builds it; each machine unpacks it once.

A wheel of pure Python is a zip file with a `dist-info` folder (PEP 427), so the standard library can make it, without a
network or build tools, from a checkout, an editable install or an installed wheel. Ray's `py_modules` is not used. It
runs `pip install --target`, which needs pip on the path of Ray's daemon, installs every dependency again, and does not
notice a changed wheel of the same name. Here the hash of the content is part of the version number.
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
_FOLDERS = ("primitives", "system", "models", "plugins", "workers", "search", "configs", "interface", "cli")
_SUFFIXES = frozenset({".py", ".toml", ".css", ".js", ".j2", ".json"})
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time stamp of every entry in a wheel. It is constant, so that equal files make equal wheels."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A built wheel.

    Attributes:
        name: file name that pip accepts.
        digest: hash of the package's files.
        content: bytes of the file.
    """

    name: str
    digest: str
    content: bytes


def build_wheel() -> Wheel:
    """Return the running package as a wheel. Its dependencies are not included; the cluster must have them."""
    files = {f"primer_search/{path.relative_to(_ROOT).as_posix()}": path.read_bytes() for path in _files()}
    digest = _digest(files.items())
    release = f"{_version()}+{digest}"
    info = f"primer_search-{release}.dist-info"
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: primer-search\nVersion: {release}\n".encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: primer-search\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    return Wheel(f"primer_search-{release}-py3-none-any.whl", digest, _zip(files))


def _files() -> list[Path]:
    """Return the sorted files of the package. The root of a checkout also has other files."""
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


def _record(files: dict[str, bytes], record: str) -> bytes:
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    return "\n".join([*lines, f"{record},,", ""]).encode()


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()
