"""Who may see what: every endpoint that shows something gets its topics here, and nowhere else."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from pipai_contracts.cursor import Cursor
from pipai_contracts.ids import DEFAULT_TENANT, Kind, Topic
from pipai_contracts.many import TopicPlace, places_of
from pipai_contracts.vector import parse_topic


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks: one who sees the topics of a tenant, and those alone."""

    tenant: str = DEFAULT_TENANT

    def topic(self, kind: Kind, resource_id: str) -> Topic:
        """The topic that an address names."""
        return Topic(self.tenant, kind, resource_id)

    def named(self, name: str) -> Topic:
        """The topic with this name, as ``workflow:w1``.

        Raises:
            ValueError: it is none.
        """
        return parse_topic(self.tenant, name)

    def places(self, wanted: Iterable[TopicPlace]) -> Mapping[Topic, Cursor | None]:
        """The topics that a body names, with the cursors to come back after."""
        return places_of(wanted, self.tenant)


def reader_of(request: Request) -> Reader:
    """Who sent the request. There is one tenant, whose topics everybody sees; who must not is to be stopped here."""
    _ = request
    return Reader()


async def _reader(request: Request) -> Reader:
    return reader_of(request)


Asking = Annotated[Reader, Depends(_reader)]
"""A parameter of an endpoint: who asks."""
