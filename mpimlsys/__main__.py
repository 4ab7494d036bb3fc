"""``python -m mpimlsys``."""

import sys

from mpimlsys.cli import main

if __name__ == "__main__":
    sys.exit(main())
