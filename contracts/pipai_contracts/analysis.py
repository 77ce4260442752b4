"""The document analysis: what its workflow is started with, and what it finds."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from pipai_contracts.ids import DEFAULT_TENANT, ResourceId, Tenant

DOCUMENT_ANALYSIS: Final = "DocumentAnalysis"
"""Name the Temporal workflow is started by."""

MAX_SUMMARY: Final = 4000
"""Characters of a summary."""

MAX_KEY_PHRASES: Final = 10
"""Key phrases of a document, best first."""


class DocumentAnalysisInput(BaseModel):
    """Which stored file to analyse, and under which names its progress is published.

    ``storage_key`` is the file's name within the storage of the deployment. ``filename`` and ``content_type``
    are what the sender called it: untrusted, used to tell the kinds of text apart.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    tenant: Tenant = DEFAULT_TENANT
    workflow_id: ResourceId
    file_id: ResourceId
    user_id: ResourceId | None = None
    storage_key: Annotated[str, Field(min_length=1, max_length=1000)]
    filename: Annotated[str, Field(max_length=1000)]
    content_type: Annotated[str | None, Field(max_length=200)] = None


class TextCounts(BaseModel):
    """How much text there is. ``pages`` counts the sections of documents that have no pages."""

    model_config = ConfigDict(frozen=True)

    pages: int
    sentences: int
    words: int
    characters: int


class AnalysisResult(BaseModel):
    """What was found in a document.

    ``language`` is an ISO 639-1 code, or ``und`` when it could not be told; ``model`` names who wrote the
    summary.
    """

    model_config = ConfigDict(frozen=True)

    language: str
    key_phrases: Annotated[tuple[str, ...], Field(max_length=MAX_KEY_PHRASES)]
    summary: Annotated[str, Field(max_length=MAX_SUMMARY)]
    counts: TextCounts
    model: str
