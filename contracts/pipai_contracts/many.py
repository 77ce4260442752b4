"""Many topics on one connection: what is asked, and what such a connection is told beside its topics' events."""

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pipai_contracts.cursor import Cursor
from pipai_contracts.events import EventType
from pipai_contracts.frames import Milliseconds
from pipai_contracts.ids import DEFAULT_TENANT
from pipai_contracts.vector import parse_topic

MAX_ADDRESS_TOPICS: Final = 20
"""Topics of ``GET /stream``: each is in the id of every event."""

MAX_TOPICS: Final = 200
"""Topics of ``POST /stream``, and of any connection."""


def _check_topic(name: str) -> str:
    parse_topic(DEFAULT_TENANT, name)
    return name


def _check_cursor(text: str) -> str:
    Cursor.parse(text)
    return text


TopicName = Annotated[str, AfterValidator(_check_topic), Field(max_length=300, examples=["workflow:w1"])]
CursorText = Annotated[str, AfterValidator(_check_cursor), Field(max_length=30, examples=["3f2a91bc.17"])]


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TopicPlace(_Asked):
    """A topic, and the cursor to come back after; without one it is shown its state."""

    topic: TopicName
    cursor: CursorText | None = None


class ManyTopics(_Asked):
    """Body of ``POST /stream``."""

    topics: Annotated[list[TopicName | TopicPlace], Field(min_length=1, max_length=MAX_TOPICS)]
    throttle_ms: Milliseconds | None = None
    batch_ms: Milliseconds | None = None
    types: Annotated[list[EventType] | None, Field(max_length=20)] = None

    def places(self) -> dict[str, str | None]:
        """Topic name → cursor; one that is named twice counts once, as it was named last."""
        return places_of(self.topics)


class TopicsChange(_Asked):
    """Body of ``POST /stream/connections/{connection_id}/topics``: what to watch too, and what no longer."""

    add: Annotated[list[TopicName | TopicPlace], Field(max_length=MAX_TOPICS)] = []
    drop: Annotated[list[TopicName], Field(max_length=MAX_TOPICS)] = []


class TopicsAnswer(BaseModel):
    """What the connection watches now."""

    model_config = ConfigDict(frozen=True)

    topics: list[str]


def places_of(topics: "list[TopicName | TopicPlace]") -> dict[str, str | None]:
    """Topic name → cursor."""
    return {one if isinstance(one, str) else one.topic: None if isinstance(one, str) else one.cursor for one in topics}
