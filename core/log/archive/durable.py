"""What it takes for a file to survive a power cut."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Have the system write a file, or what a folder says of its files, to the disk.

    Raises:
        OSError: it could not.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
