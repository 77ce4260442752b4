"""What the load of `bench.delivery` can take: a server that sends the same ready bytes as fast as they are read.

``python -m bench.peers.ready_bytes HANDLE VIEWERS TOGETHER`` answers so many viewers of a listening socket it was
given, then writes to one after the other, so many events at a time, until one has left.
"""

import argparse
import socket
from contextlib import suppress
from typing import Final

from bench.stand.payload import data

_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("handle", type=int)
    parser.add_argument("viewers", type=int)
    parser.add_argument("together", type=int)
    given = parser.parse_args()
    event = b"id: 3f2a91bc.100000\nevent: workflow_progress\ndata: %b\n\n" % data(0, 0)
    ready = event * given.together
    with socket.socket(fileno=given.handle) as server:
        viewers = [server.accept()[0] for _ in range(given.viewers)]
    for viewer in viewers:
        viewer.recv(65536)
        viewer.sendall(_HEAD)
        viewer.setblocking(False)
    with suppress(ConnectionError):
        while True:
            for viewer in viewers:
                with suppress(BlockingIOError):
                    viewer.send(ready)


if __name__ == "__main__":
    main()
