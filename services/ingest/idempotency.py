"""``Idempotency-Key``: a name for a request, in place of an event_id in its body."""

from typing import Final

from starlette.requests import Request

from pipai_contracts.batch import MAX_BATCH_EVENTS
from pipai_contracts.ids import MAX_ID_LENGTH, check_id
from pipai_contracts.sealed import Sealed
from services.ingest.refusals import invalid_field

_HEADER: Final = b"idempotency-key"

_MAX_BATCH_KEY: Final = MAX_ID_LENGTH - len(f":{MAX_BATCH_EVENTS - 1}")

DESCRIBED: Final = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "Makes a repeat recognisable, as event_id does; of a batch, `<key>:<index>` for each event.",
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


def named(event: Sealed, key: str | None) -> Sealed:
    """The event under the request's key.

    Raises:
        ProblemError: 422, the event has another id of its own.
    """
    if key is None:
        return event
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


def _refused(what: str) -> Exception:
    return invalid_field("header.idempotency-key", what)
