"""``python -m services.archiver``."""

import sys

from services.archiver.main import main

sys.exit(main())
