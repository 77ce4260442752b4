"""The whole system as a user starts it, in a folder and on ports of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self, cast

from services.standalone.embedded import next_free_port

_CLEARED = {"REDIS_URL", "UPSTASH_REDIS_REST_URL", "TEMPORAL_ADDRESS", "TEMPORAL_PROFILE", "OPENAI_BASE_URL"}


class RunningSystem:
    """``./run up``: `begin` it, `end` it like Ctrl-C, `kill` it like a crash; the data stays in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = next_free_port(0)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def redis_url(self) -> str:
        state = cast("dict[str, Any]", json.loads((self._folder / ".pipai" / "run.json").read_text(encoding="utf-8")))
        return next(service["address"] for service in state["services"] if service["name"] == "redis")

    def service_pids(self) -> dict[str, int]:
        state = cast("dict[str, Any]", json.loads((self._folder / ".pipai" / "run.json").read_text(encoding="utf-8")))
        return {service["name"]: service["pid"] for service in state["services"]}

    def output(self) -> str:
        return (self._folder / "up.log").read_text(encoding="utf-8")

    def begin(self, seconds: float = 90) -> None:
        """Start it and return when it says that all is ready."""
        kept = {name: value for name, value in os.environ.items() if name not in _CLEARED}
        ports = {"PORT": str(self._port), "METRICS_PORT": "0", "REDIS_PORT": "0", "TEMPORAL_PORT": "0"}
        with (self._folder / "up.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.standalone", "up"],
                cwd=self._folder,
                env={**kept, **ports, "TEMPORAL_UI_PORT": "0"},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        deadline = time.monotonic() + seconds
        while "services ready after" not in self.output():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the system does not come up:\n{self.output()}")
            time.sleep(0.05)

    def end(self) -> int:
        """Stop it as Ctrl-C does; returns its exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGINT)
        return self._wait()

    def kill(self) -> None:
        """End ``./run`` without a chance to clean up."""
        if self._process is not None:
            self._process.kill()
            self._wait()

    def _wait(self) -> int:
        if self._process is None:
            return 0
        code = self._process.wait(20)
        self._process = None
        return code

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
