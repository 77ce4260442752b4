"""`./run up --import case.jsonl`: an exported history as a system of its own, apart from everything else."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from redis.exceptions import RedisError

from core.log.errors import LogError
from core.log.exported import Survey
from core.log.keys import Keys
from core.runtime.ports import next_free_port
from core.runtime.redis import command_client
from core.runtime.settings import Settings
from pipai_contracts.ids import DEFAULT_TENANT, Topic
from services.admin.command import RefusedError
from services.admin.importing import import_file, look_through
from services.standalone.settings import StandaloneSettings

PREFIX: Final = "case"

_ELSEWHERE: Final = (
    "REDIS_URL",
    "UPSTASH_",
    "TEMPORAL_ADDRESS",
    "TEMPORAL_PROFILE",
    "TEMPORAL_API_KEY",
    "TEMPORAL_TLS",
)
"""How the variables begin that would lead to servers of other deployments."""


@dataclass(frozen=True, slots=True)
class Case:
    """An exported history, and the folder its system has for itself."""

    file: Path
    folder: Path
    found: Survey

    def settings(self) -> StandaloneSettings:
        """The settings of a system that shares nothing with any other, also for the services it starts.

        Its streams keep the whole case: the archiver may begin after the projector, which trims what is in the views.

        Raises:
            pydantic.ValidationError: those of the surroundings cannot be used.
        """
        own = self.folder.absolute()
        for name in list(os.environ):
            if name.upper().startswith(_ELSEWHERE):
                del os.environ[name]
        os.environ |= {
            "KEY_PREFIX": PREFIX,
            "ARCHIVE_URL": (own / "archive").as_uri(),
            "ARCHIVE_SPOOL": str(own / "archive-spool"),
            "STORAGE_URL": (own / "uploads").as_uri(),
            "STREAM_MAX_ENTRIES": str(max(Settings().stream_max_entries, self.found.events)),
            "TEMPORAL_CONFIG_FILE": str(own / "no-temporal.toml"),
        }
        settings = StandaloneSettings()
        ports = {"port": next_free_port(settings.port), "metrics_port": settings.metrics_port or 0}
        return settings.model_copy(update=ports)

    def clear(self) -> None:
        """Remove what an earlier system of this case left."""
        for left in self.folder.iterdir():
            if left.is_dir():
                shutil.rmtree(left)

    async def load(self, address: str, settings: Settings) -> str | None:
        """Import the case; why it could not be, or None."""
        redis = command_client(address)
        keys = Keys(settings.key_prefix, settings.stream_partitions)
        try:
            await import_file(redis, keys, self.file, owner_ttl=settings.view_ttl)
        except (RefusedError, LogError, RedisError) as error:
            return f"{self.file} could not be imported: {error}"
        finally:
            await redis.aclose()
        return None

    def table(self, host: str) -> list[tuple[str, str]]:
        """What is in it and where it is to be seen, as lines for people; ``host`` is ``http://host:port``."""
        topic = Topic.parse(f"{DEFAULT_TENANT}:{self.found.topic}")
        path = quote(topic.id, safe="")
        left_out = f", {self.found.left_out} parked ones left out" if self.found.left_out else ""
        return [
            ("case", f"{self.found.events} events of {topic.name}{left_out}"),
            *([("shown at", f"{host}/demo/streaming?workflow={path}")] if topic.kind == "workflow" else []),
            ("its view", f"{host}/views/{topic.kind}/{path}"),
            ("its history", f"{host}/history/events"),
        ]


def open_case(file: Path, folder: Path) -> Case:
    """The case in a file, which gets a folder of its own below ``folder``.

    Raises:
        RefusedError: lines of the file cannot be used; it names them.
        pydantic.ValidationError: the number of partitions is none.
    """
    return Case(file, folder / "cases" / file.stem, look_through(file, Keys(PREFIX, Settings().stream_partitions)))
