"""Names of keys that are made ready beside those of a running layout, each in the slot of the name it will get."""

from typing import Final

from core.log.keys import Keys

_MARK: Final = "staged:"


def staged(key: str) -> str:
    """Where the key is made ready: the same slot, so that one RENAME puts it in place."""
    return f"{_MARK}{key}" if "{" in key else f"{_MARK}{{{key}}}"


def placed(name: str) -> str:
    """The key that `staged` made the name of."""
    key = name.removeprefix(_MARK)
    bare = key[1:-1]
    return bare if key == f"{{{bare}}}" and "{" not in bare and "}" not in bare else key


def staged_starts(prefix: str) -> tuple[str, str]:
    """How the staged names of a deployment begin."""
    one, other = Keys(prefix).starts
    return f"{_MARK}{one}", f"{_MARK}{other}"
