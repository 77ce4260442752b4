"""How a confined process answers: each item as four bytes of length, then JSON.

``{"item": …}`` is an item, ``{"error": name, "message": …}`` a `DocumentError`, ``{"fault": traceback}`` any
other exception, ``{"end": true}`` the end. A pipe that closes without one of the last three was cut by a crash.
"""

import asyncio
import json
from typing import Any, BinaryIO, Final

MAX_FRAME: Final = 64 * 1024 * 1024
_LENGTH: Final = 4


def write_frame(pipe: BinaryIO, frame: dict[str, Any]) -> None:
    """Write one frame and push it out, so that progress is seen when it happens."""
    data = json.dumps(frame).encode()
    pipe.write(len(data).to_bytes(_LENGTH, "big") + data)
    pipe.flush()


async def read_frame(pipe: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next frame, or None when the pipe closed before it was whole."""
    try:
        length = int.from_bytes(await pipe.readexactly(_LENGTH), "big")
        if length > MAX_FRAME:
            return None
        return json.loads(await pipe.readexactly(length))
    except asyncio.IncompleteReadError:
        return None
