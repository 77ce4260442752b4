"""``python -m services.projector``."""

import sys

from services.projector.main import main

sys.exit(main())
