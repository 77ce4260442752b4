"""Settings of ingest."""

from typing import Annotated

from pydantic import Field

from core.runtime.settings import HttpSettings, MetricsPort
from core.runtime.storage import StorageUrl

DAY = 24 * 3600


class IngestSettings(HttpSettings):
    """What ingest can be told."""

    metrics_port: MetricsPort = 9401
    host: Annotated[str, Field(description="Address ingest listens on.")] = "127.0.0.1"
    port: Annotated[int, Field(description="Port ingest listens on.", ge=0, le=65535)] = 8001
    idempotency_window: Annotated[
        int, Field(description="Seconds within which a repeated event_id is recognised and not stored again.", ge=60)
    ] = 600
    stream_backlog_limit: Annotated[
        int,
        Field(
            description="Events of a source stream that may be in no view, or not archived yet; beyond, publishing "
            "answers 503.",
            ge=1,
        ),
    ] = 100_000
    storage_url: StorageUrl = ""
    upload_max_bytes: Annotated[int, Field(description="Largest file that can be uploaded.", ge=1)] = 100 * 1024 * 1024
    upload_ttl: Annotated[
        int, Field(description="Seconds an uploaded file is kept; its analysis has to be done by then.", ge=60)
    ] = DAY
    document_timeout: Annotated[
        int, Field(description="Seconds after which Temporal ends the analysis of a document.", ge=1)
    ] = DAY
    watch_interval: Annotated[
        float, Field(description="Seconds between two looks at which Temporal workflows closed.", gt=0)
    ] = 2.0
