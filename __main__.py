"""`python -m primer_search` is the command `primer-search`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
