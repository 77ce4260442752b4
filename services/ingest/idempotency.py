"""``Idempotency-Key``: a name for a request, in place of an event_id in its body."""

from typing import Final

from starlette.requests import Request

from core.log.errors import LogUnavailableError
from pipai_contracts.batch import MAX_BATCH_EVENTS
from pipai_contracts.ids import MAX_ID_LENGTH, check_id
from pipai_contracts.sealed import Sealed
from services.ingest.publisher import Publisher
from services.ingest.refusals import invalid_field, key_reused, unavailable

_HEADER: Final = b"idempotency-key"

_MAX_BATCH_KEY: Final = MAX_ID_LENGTH - len(f":{MAX_BATCH_EVENTS - 1}")

DESCRIBED: Final = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": (
                "Makes a repeat of the request recognisable, as event_id does an event's; the events of a batch that "
                "have no event_id get `<key>:<index>`. Within IDEMPOTENCY_WINDOW a key goes with one body: with "
                "another it is refused (422, /problems/key-reused), and nothing of that body is stored."
            ),
            "schema": {"type": "string", "minLength": 1, "maxLength": MAX_ID_LENGTH},
        }
    ]
}


def idempotency_key(request: Request) -> str | None:
    """The request's key, taken as it was sent; None when it has none.

    Raises:
        ProblemError: 422, it is no event id.
    """
    keys: list[bytes] = [value for name, value in request.scope["headers"] if name == _HEADER]
    if not keys:
        return None
    if len(keys) > 1:
        raise _refused("must be there once")
    try:
        return check_id(keys[0].decode("latin-1"))
    except ValueError as error:
        raise _refused(str(error)) from error


def named(event: Sealed, key: str) -> Sealed:
    """The event under the request's key.

    Raises:
        ProblemError: 422, the event has another id of its own.
    """
    if event.made_id:
        return event._replace(event_id=key, made_id=False)
    if event.event_id != key:
        raise _refused("must be the event's event_id where both are given")
    return event


def batch_key(request: Request) -> str | None:
    """The key of a batch, short enough for ``<key>:<index>`` to be an event id.

    Raises:
        ProblemError: 422, it is not.
    """
    key = idempotency_key(request)
    if key is not None and len(key) > _MAX_BATCH_KEY:
        raise _refused(f"must be at most {_MAX_BATCH_KEY} characters long for a batch, not {len(key)}")
    return key


def numbered(event: Sealed, key: str | None, index: int) -> Sealed:
    """An event of a batch; one without an id of its own is named after the batch's key and its place there."""
    if key is None or not event.made_id:
        return event
    return event._replace(event_id=f"{key}:{index}", made_id=False)


async def bind_key(publisher: Publisher, scope: str, key: str, body: bytes) -> None:
    """Make sure that the key came with no other body; from now on it goes with this one.

    Raises:
        ProblemError: 422, it came with another; 503, Redis does not tell.
    """
    try:
        bound = await publisher.bind(scope, key, body)
    except LogUnavailableError as error:
        raise unavailable(error) from error
    if not bound:
        raise key_reused()


def _refused(what: str) -> Exception:
    return invalid_field("header.idempotency-key", what)
