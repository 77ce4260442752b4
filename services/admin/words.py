"""How things are put on a terminal."""


def plain(text: str) -> str:
    """On one line, and without what could command a terminal."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def counted(count: int, thing: str) -> str:
    """``1 letter``, ``2 letters``."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
