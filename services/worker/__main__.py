"""``python -m services.worker``."""

import sys

from services.worker.main import main

if __name__ == "__main__":  # Temporal's sandbox imports workflow modules again
    sys.exit(main())
