"""Load for the append bench: requests over keep-alive connections, each sent when the one before is answered.

`wrk` where it is installed; else a small asyncio client (``python -m bench.stand.generator``), which may be slower than
what it measures. The heading of the bench says which it was.
"""

import argparse
import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

TOPICS: Final = 500

_SCRIPT: Final = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = io.open("{body}")
wrk.body = file:read("*a")
file:close()
local number = 0
function request()
  number = number + 1
  return wrk.format(nil, (string.gsub("{path}", "@", number % {topics})))
end
"""
_UNITS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class Measured(NamedTuple):
    """What came of it: requests a second, and how long one took in milliseconds."""

    rate: float
    median: float
    p99: float


def name() -> str:
    """Which generator there is."""
    return "wrk" if shutil.which("wrk") else "asyncio client"


def start(url: str, body: Path, connections: int, seconds: float) -> subprocess.Popen[str]:
    """Post ``body`` to ``url``, in which ``@`` stands for a number that changes, for some time."""
    if shutil.which("wrk") is None:
        arguments = [sys.executable, "-m", "bench.stand.generator", url, str(body), str(connections), str(seconds)]
    else:
        script = body.with_suffix(".lua")
        script.write_text(_SCRIPT.format(body=body, path=urlsplit(url).path, topics=TOPICS))
        duration = f"{max(1, round(seconds))}s"
        arguments = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{duration}",
            "--latency",
            f"-s{script}",
            f"http://{urlsplit(url).netloc}",
        ]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def result(process: subprocess.Popen[str]) -> Measured:
    """Wait for the load to end.

    Raises:
        RuntimeError: requests were refused, or there were none.
    """
    told, _ = process.communicate()
    if told.startswith("{"):
        return Measured(**json.loads(told))
    rate = re.search(r"Requests/sec:\s+([\d.]+)", told)
    latency = {
        share: float(time) * _UNITS[unit] for share, time, unit in re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s)", told)
    }
    if rate is None or "Non-2xx" in told or "Socket errors" in told:
        raise RuntimeError(told)
    return Measured(float(rate[1]), latency["50"], latency["99"])


async def _connection(url: str, body: bytes, until: float, times: list[float], first: int) -> None:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    number = first
    while (began := time.perf_counter()) < until:
        number += 1
        path = parts.path.replace("@", str(number % TOPICS))
        head = f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        writer.write(f"{head}\r\n\r\n".encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 20"):
            raise RuntimeError(answer.decode())
        length = re.search(rb"content-length: (\d+)", answer)
        await reader.readexactly(int(length[1]) if length else 0)
        times.append((time.perf_counter() - began) * 1000)
    writer.close()


async def _load(url: str, body: bytes, connections: int, seconds: float) -> Measured:
    times: list[float] = []
    until = time.perf_counter() + seconds
    await asyncio.gather(*(_connection(url, body, until, times, number * 7) for number in range(connections)))
    times.sort()
    return Measured(len(times) / seconds, times[len(times) // 2], times[int(len(times) * 0.99)])


def main() -> None:
    """Send, and print what came of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("body", type=Path)
    parser.add_argument("connections", type=int)
    parser.add_argument("seconds", type=float)
    given = parser.parse_args()
    load = asyncio.run(_load(given.url, given.body.read_bytes(), given.connections, given.seconds))
    print(json.dumps(load._asdict()))


if __name__ == "__main__":
    main()
