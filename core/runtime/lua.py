"""Lua scripts kept in ``.lua`` files beside the typed functions that call them."""

from pathlib import Path

from redis.asyncio import Redis
from redis.commands.core import AsyncScript


def load_script(client: Redis, beside: str, name: str) -> AsyncScript:
    """The script ``name`` in the folder of the module file ``beside``."""
    text = (Path(beside).parent / name).read_text(encoding="utf-8")
    return client.register_script(text)
