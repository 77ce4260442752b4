"""Settings of the whole system on one machine."""

from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import Field, field_validator

from core.log.archive.place import ArchiveUrl
from core.runtime.settings import Settings


class StandaloneSettings(Settings):
    """What `./run up` decides beyond what every process shares."""

    log_format: Annotated[
        Literal["json", "text"], Field(description="Log lines as JSON objects, or as text for people.")
    ] = "text"
    host: Annotated[str, Field(description="Loopback address the pages and the API are served on.")] = "127.0.0.1"
    port: Annotated[int, Field(description="Port of the pages and the API; 0 takes any free one.", ge=0, le=65535)] = (
        8000
    )
    metrics_port: Annotated[
        int | None,
        Field(
            description="Moves the ports of /metrics, which are 9402 (web), 9403 (worker), 9404 (archiver) and 9410 "
            "(projector), to this one and the three after it; 0 takes any free ones. Further projectors take the next "
            "free ports.",
            ge=0,
            le=65532,
        ),
    ] = None
    archive_url: ArchiveUrl = ""
    redis_port: Annotated[
        int, Field(description="Port of the Redis started here, or the next free one.", ge=0, le=65535)
    ] = 6379
    temporal_port: Annotated[
        int, Field(description="Port of the Temporal started here, or the next free one.", ge=0, le=65535)
    ] = 7233
    temporal_ui_port: Annotated[
        int, Field(description="Port of that Temporal's pages, or the next free one.", ge=0, le=65535)
    ] = 8233

    @field_validator("host")
    @classmethod
    def _only_loopback(cls, host: str) -> str:
        if host != "localhost" and not ip_address(host).is_loopback:
            raise ValueError("there is no access control yet, so only a loopback address is served, as 127.0.0.1")
        return host
