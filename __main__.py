"""`python -m primer_search` is the command `primer-search`."""

from __future__ import annotations

import os
import sys

__all__ = ["run"]


def run() -> None:
    """Run the command of `sys.argv`, and exit with its code."""
    try:
        from .cli.app import main
    except KeyboardInterrupt:  # before the command can handle signals
        os.write(2, b"primer-search: interrupted\n")
        os._exit(130)
    sys.exit(main())


if __name__ == "__main__":
    run()
