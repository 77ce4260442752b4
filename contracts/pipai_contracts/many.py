"""Many topics on one connection: what is asked, and what such a connection is told beside its topics' events."""

from collections.abc import Iterable
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from pipai_contracts.cursor import Cursor
from pipai_contracts.events import EventType
from pipai_contracts.frames import Milliseconds
from pipai_contracts.ids import DEFAULT_TENANT, Topic
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


def _by_name_alone(value: Any) -> Any:
    return {"topic": value} if isinstance(value, str) else value


Wanted = Annotated[TopicPlace, BeforeValidator(_by_name_alone, json_schema_input_type=TopicName | TopicPlace)]
"""A topic by its name alone, or with a cursor."""


class ManyTopics(_Asked):
    """Body of ``POST /stream``: the topics to be watched, and what ``GET /stream`` has as parameters beside them.

    A topic that is named twice counts once, as it was named last.
    """

    topics: Annotated[list[Wanted], Field(min_length=1, max_length=MAX_TOPICS)]
    start: Annotated[str | None, Field(alias="from", max_length=40, examples=["live"])] = None
    throttle_ms: Milliseconds | None = None
    batch_ms: Milliseconds | None = None
    types: Annotated[list[EventType] | None, Field(max_length=20)] = None


class TopicsChange(_Asked):
    """Body of ``POST /stream/connections/{connection_id}/topics``: what to watch too, and what no longer."""

    add: Annotated[list[Wanted], Field(max_length=MAX_TOPICS)] = []
    drop: Annotated[list[TopicName], Field(max_length=MAX_TOPICS)] = []


class TopicsAnswer(BaseModel):
    """What the connection watches now."""

    model_config = ConfigDict(frozen=True)

    topics: list[str]


def places_of(wanted: Iterable[TopicPlace], tenant: str = DEFAULT_TENANT) -> dict[Topic, Cursor | None]:
    """Topic → cursor."""
    return {
        parse_topic(tenant, place.topic): None if place.cursor is None else Cursor.parse(place.cursor)
        for place in wanted
    }
