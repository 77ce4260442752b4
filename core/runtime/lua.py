"""Lua scripts kept in ``.lua`` files beside the typed functions that call them."""

from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError


class Script:
    """A Lua script. All its keys are in one slot."""

    def __init__(self, client: Redis, text: str) -> None:
        self._client = client
        self._text = text
        self._sha = sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, keys: Sequence[str], args: Sequence[str | int | bytes]) -> Any:
        """Run the script.

        A node that does not know it, as after a failover, gets its text in the same call: to load it first would ask
        every master of a Cluster, and one that is away would keep the others from working.

        Raises:
            redis.exceptions.RedisError: Redis did not answer, or the script failed.
        """
        client: Any = self._client  # what evalsha returns is typed for two kinds of client at once
        try:
            return await client.evalsha(self._sha, len(keys), *keys, *args)
        except NoScriptError:
            return await client.eval(self._text, len(keys), *keys, *args)


def load_script(client: Redis, beside: str, *names: str) -> Script:
    """The script ``names[-1]`` in the folder of the module file ``beside``; those before it have functions it calls."""
    folder = Path(beside).parent
    return Script(client, "".join((folder / name).read_text(encoding="utf-8") for name in names))
