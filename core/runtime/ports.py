"""Ports of this machine that nobody listens on."""

import random
import socket
from itertools import cycle, islice
from typing import Final

LOOPBACK: Final = "127.0.0.1"

_OURS: Final = range(20_000, 32_000)
"""Below those that systems give to clients (Linux from 32,768 on): a client could take a port before who chose it
listens, or while that is dead for a moment."""

_untried = cycle(random.sample(_OURS, len(_OURS)))


class NoFreePortError(Exception):
    """A hundred ports in a row are taken; the message says which."""


def free_port() -> int:
    """Any port nobody listens on; another one with each call.

    Raises:
        NoFreePortError: a hundred that were tried are taken.
    """
    for port in islice(_untried, 100):
        if port_is_free(port):
            return port
    raise NoFreePortError(f"A hundred ports from {_OURS.start} to {_OURS.stop - 1} were tried, and all are taken.")


def next_free_port(wanted: int) -> int:
    """`wanted`, or the first free port after it; for 0 any.

    Raises:
        NoFreePortError: a hundred ports in a row are taken.
    """
    if wanted == 0:
        return free_port()
    for port in range(wanted, wanted + 100):
        if port_is_free(port):
            return port
    raise NoFreePortError(f"The ports {wanted} to {wanted + 99} are all taken on this machine.")


def port_is_free(port: int) -> bool:
    """Whether nobody listens on `port` of 127.0.0.1, also not by listening on all addresses."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        pass  # macOS lets one bind beside a listener on all addresses: only a connection tells
    else:
        return False
    with socket.socket() as probe:
        # Connections of a server that just ended linger; without this a restart would move to another port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
