"""``python -m tests.faults.unshared_projector``: a projector that shares with nobody."""

import sys
from functools import partial

from services.projector import main
from tests.projector.test_rivals import Unshared

if __name__ == "__main__":
    main.build = partial(main.build, leases=Unshared)
    sys.exit(main.main())
