"""Settings of the worker."""

from typing import Annotated

from pydantic import Field, SecretStr

from core.runtime.settings import MetricsPort, Settings
from core.runtime.storage import StorageUrl


class WorkerSettings(Settings):
    """What only workers need."""

    metrics_port: MetricsPort = 9403
    storage_url: StorageUrl = ""
    worker_documents: Annotated[
        int, Field(description="Documents a worker reads at once; each takes a process of its own.", ge=1, le=100)
    ] = 4
    worker_grace: Annotated[
        float, Field(description="Seconds a worker that is told to stop gives its documents to end.", ge=0)
    ] = 3.0
    document_max_characters: Annotated[int, Field(description="Most text a document may have.", ge=1)] = 10_000_000
    document_memory: Annotated[
        int, Field(description="Bytes of memory that reading a document may take.", ge=256 * 1024 * 1024)
    ] = 1024 * 1024 * 1024
    document_seconds: Annotated[
        int, Field(description="Seconds that reading a document, or analysing its text, may take.", ge=1)
    ] = 300
    openai_base_url: Annotated[
        str | None,
        Field(
            description="Address of an OpenAI-compatible server that writes the summaries; without it none is asked."
        ),
    ] = None
    openai_api_key: Annotated[SecretStr | None, Field(description="Key for that server, where it wants one.")] = None
    openai_model: Annotated[str, Field(description="Model to ask for there.", min_length=1)] = "gpt-4o-mini"
    openai_timeout: Annotated[
        float, Field(description="Seconds that server may stay silent before it counts as away.", gt=0)
    ] = 60.0
