"""What a process says with its exit code."""

from typing import Final

UNFIT: Final = 2
"""It cannot work before somebody changes a setting: to start it again would not help."""
