"""Connections that have hiredis write commands too, not only read answers.

redis-py itself does so in its synchronous client alone; in Python the arguments of one commit take milliseconds.
Connections over TLS are redis-py's own.
"""

from collections.abc import Callable
from typing import cast

import hiredis
from redis.asyncio import Connection
from redis.asyncio.sentinel import SentinelManagedConnection
from redis.typing import EncodableT


class PackingConnection(Connection):
    """A connection to a server whose address is known."""

    def pack_command(self, *args: EncodableT) -> list[bytes]:
        """The command as Redis reads it; one of two words, like ``CONFIG GET``, comes as its first argument."""
        name = args[0].encode() if isinstance(args[0], str) else bytes(cast("bytes", args[0]))
        pack = cast("Callable[[tuple[EncodableT, ...]], bytes]", hiredis.pack_command)
        return [pack((*name.split(), *args[1:]))]


class PackingMasterConnection(PackingConnection, SentinelManagedConnection):
    """A connection to the master that sentinels name."""
