"""The confined side: ``python -m services.worker.confined.child``, its task on standard input."""

import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from core.documents import DocumentError, TooLargeError
from services.worker.confined.frames import write_frame
from services.worker.confined.limits import Limits, confine


def _run(task: dict[str, Any], answers: BinaryIO) -> None:
    produce: Callable[..., Iterator[Any]] = getattr(importlib.import_module(task["module"]), task["function"])
    confine(Limits(**task["limits"]))
    try:
        for item in produce(*task["args"], **task["kwargs"]):
            write_frame(answers, {"item": item})
    except DocumentError as error:
        frame = {"error": type(error).__name__, "message": str(error)}
    except MemoryError:
        frame = {
            "error": TooLargeError.__name__,
            "message": "Reading the document takes more memory than is allowed.",
        }
    else:
        frame = {"end": True}
    write_frame(answers, frame)


def main() -> int:
    """Run the task; 0 when it ended with a frame that says how, 1 after a fault of ours."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C on a terminal reaches us too; our parent decides
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library that prints would break the frames
    task = json.loads(sys.stdin.buffer.read())
    try:
        _run(task, answers)
    except BrokenPipeError:  # nobody reads any more: the parent gave up or is gone
        return 0
    except Exception:  # noqa: BLE001 - whatever it is, the parent tells it
        write_frame(answers, {"fault": traceback.format_exc()})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
