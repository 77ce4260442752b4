"""``python -m services.admin``: the same as ``pipai-admin``."""

import sys

from services.admin.main import main

sys.exit(main(sys.argv[1:]))
