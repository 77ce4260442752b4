"""``python -m pipai``."""

import sys

from pipai.main import run

if __name__ == "__main__":
    sys.exit(run())
