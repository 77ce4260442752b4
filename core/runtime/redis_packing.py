"""Connections that have hiredis write commands too, not only read answers, and that write at once what can be.

redis-py itself does so in its synchronous client alone; in Python the arguments of one commit take milliseconds, and to
wait in a task of its own for a write that is over already takes a fifth of a short command's time. Connections over TLS
are redis-py's own.
"""

from asyncio import StreamWriter
from collections.abc import Callable, Iterable
from typing import cast

import hiredis
from redis.asyncio import Connection
from redis.asyncio.sentinel import SentinelManagedConnection
from redis.exceptions import ConnectionError  # noqa: A004
from redis.typing import EncodableT


class PackingConnection(Connection):
    """A connection to a server whose address is known."""

    def pack_command(self, *args: EncodableT) -> list[bytes]:
        """The command as Redis reads it; one of two words, like ``CONFIG GET``, comes as its first argument."""
        name = args[0].encode() if isinstance(args[0], str) else bytes(cast("bytes", args[0]))
        pack = cast("Callable[[tuple[EncodableT, ...]], bytes]", hiredis.pack_command)
        return [pack((*name.split(), *args[1:]))]

    async def send_packed_command(
        self,
        command: bytes | str | Iterable[bytes],
        check_health: bool = True,
    ) -> None:
        """Write the command; wait, no longer than the socket's timeout, only while the socket takes no more.

        Raises:
            redis.exceptions.RedisError: the connection is broken; of one that broke just now, reading tells.
        """
        if check_health and self.is_connected:
            await self.check_health()
            check_health = False
        writer = self._writer
        if writer is not None and not (isinstance(command, str) or writer.is_closing() or _unsent(writer)):
            writer.writelines([command] if isinstance(command, bytes) else command)
            if not _unsent(writer):
                return
            command = []  # the rest of it is waited for
        try:
            await super().send_packed_command(command, check_health)
        except AttributeError as error:
            if self._writer is not None:
                raise
            raise ConnectionError("another task closed the connection meanwhile") from error


def _unsent(writer: StreamWriter) -> int:
    """Bytes that the socket did not take yet."""
    return writer.transport.get_write_buffer_size()


class PackingMasterConnection(PackingConnection, SentinelManagedConnection):
    """A connection to the master that sentinels name."""
