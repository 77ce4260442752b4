"""How many viewers get how much how fast: ``./run bench delivery [--only MEASURE] [--short]``.

The same progress events, about 230 bytes as a message of a stream, through three servers in one run:

- ours: the api's process. A writer leaves in Redis what a projector's commits leave there (`bench.stand.publishers`),
  because a projector cannot be fast enough to have it wait;
- plain: FastAPI, an asyncio queue per viewer, sse-starlette; published to by HTTP;
- nchan: nginx with the module of that name, one worker; published to by HTTP. Left out where it is not installed.

The server has core 0; viewers, publisher and Redis share core 1. In turns; medians of five rounds. Measures:

- memory: of a connection while nothing happens, 10,000 of them; connections to Redis. First, because freed
  memory would be used again;
- saturation: deliveries a second when a fixed number of events is always on its way, and what the load alone can take;
- latency: from publish to viewer at 80 events a second for 1,000 viewers;
- slow: the same through ours, alone and with 50 more viewers who do not read;
- storm: 10,000 viewers come back with a cursor;
- whole: HTTP publish → ingest → projector → api → 1,000 viewers at 50 events a second.

Printed as Markdown tables.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from typing import Final

from bench.measures.idle import memory
from bench.measures.pace import latency, whole_system
from bench.measures.saturation import saturation
from bench.measures.scale import SHORT, Scale, Stage, allowed, everybody, running
from bench.measures.slow import slow
from bench.measures.storm import storm
from bench.stand.cores import pin
from bench.stand.servers import find_nchan

MEASURES: Final[dict[str, Callable[[Scale, Stage], Iterator[str]]]] = {
    "memory": memory,
    "saturation": saturation,
    "latency": latency,
    "slow": slow,
    "storm": storm,
    "whole": whole_system,
}


def main() -> None:
    """Measure and print."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="./run bench delivery", description=__doc__, formatter_class=shape)
    parser.add_argument("--short", action="store_true", help="one round with a few viewers: shows that it works")
    parser.add_argument("--only", choices=MEASURES, help="one of the measures")
    given = parser.parse_args()
    wanted = SHORT if given.short else Scale()
    scale = allowed(wanted)
    pin(os.getpid(), 1)  # Redis inherits it
    print(f"{scale.rounds} rounds of {scale.seconds:g} s, {os.cpu_count()} cores")
    if scale.many < wanted.many:
        print(f"{scale.many:,} viewers instead of {wanted.many:,}: a process may not have more files open here")
    if find_nchan() is None:
        print("without nchan: nginx and its module are not installed (Debian: nginx, libnginx-mod-nchan)")
    with running(everybody()) as stage:
        for name, measure in MEASURES.items():
            if given.only in {None, name}:
                print(f"\n## {name}", flush=True)
                for part in measure(scale, stage):
                    print(f"\n{part}", flush=True)


if __name__ == "__main__":
    main()
