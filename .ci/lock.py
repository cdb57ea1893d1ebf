"""Write the lock file of this Python, and the licences of what it pins, from the packages that are installed.

    make lock

Needs an installation with the extra `dev`. The lock file is a file of constraints for pip, without addresses, so that
any index or mirror serves it. Packages that other platforms need are not in it, and are chosen by pip there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).resolve().parent.parent / "requirements"
PACKAGE = "primer-search"
RUNTIME = "needed to run"


def closure(extra: str) -> dict[str, Distribution]:
    """Return the packages that an extra needs on this machine, directly or not, by their canonical names."""
    found: dict[str, Distribution] = {}
    unread, read = [(PACKAGE, extra)], set()
    while unread:
        name, wanted = unread.pop()
        if (name, wanted) in read:
            continue
        read.add((name, wanted))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            sys.exit(f"{name} is not installed: run `make dev` first")
        found[name] = package
        for requirement in map(Requirement, package.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": wanted}):
                needed = canonicalize_name(requirement.name)
                unread += [(needed, part) for part in ("", *requirement.extras)]
    del found[PACKAGE]
    return dict(sorted(found.items()))


def licence(package: Distribution) -> str:
    """Return the licence that a package declares, shortened to its first line."""
    metadata = package.metadata
    classified = [name.rpartition(" :: ")[2] for name in metadata.get_all("Classifier", []) if "License ::" in name]
    declared = metadata.get("License-Expression") or ", ".join(classified) or metadata.get("License") or "not declared"
    return re.sub(r"\s+", " ", declared.strip().splitlines()[0])[:60].replace("|", "/")


def lines_of_lock(packages: dict[str, Distribution]) -> Iterator[str]:
    """Yield the lines of the lock file."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    yield f"# Versions that CI tests with, for Python {version} on Linux: constraints that `make lock` writes."
    yield from (f"{name}=={package.version}" for name, package in packages.items())


def lines_of_licences(packages: dict[str, Distribution], runtime: dict[str, Distribution]) -> Iterator[str]:
    """Yield the lines of the table of licences."""
    yield "# Licences of the dependencies"
    yield ""
    yield "As the packages declare them; `make lock` writes this. Those without a mark are for extras and development."
    yield ""
    yield "| package | licence | |"
    yield "|---|---|---|"
    for name, package in packages.items():
        yield f"| {name} | {licence(package)} | {RUNTIME if name in runtime else ''} |"


def main() -> None:
    """Write both files."""
    packages, runtime = closure("dev"), closure("")
    FOLDER.mkdir(exist_ok=True)
    lock = FOLDER / f"python{sys.version_info.major}.{sys.version_info.minor}.txt"
    lock.write_text("\n".join(lines_of_lock(packages)) + "\n", encoding="utf-8")
    table = "\n".join(lines_of_licences(packages, runtime)) + "\n"
    (FOLDER / "licences.md").write_text(table, encoding="utf-8")
    print(f"{lock.name}: {len(packages)} packages, {len(runtime)} of them {RUNTIME}")


if __name__ == "__main__":
    main()
