"""``pipai-admin republish``: have events of the past happen once more. Rare and dangerous, so it is asked for twice."""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from shlex import quote
from typing import Final, get_args

from core.log.append import MAX_PER_CALL, Appender
from core.log.archive.rows import Row, decode_row
from core.log.archive.wanted import Wanted
from core.log.audit import AuditLog
from core.log.errors import UndecodableEntryError
from core.log.keys import Keys, partition_of
from core.runtime.clock import now
from pipai_contracts.envelope import Envelope
from pipai_contracts.events import EventType
from pipai_contracts.ids import DEFAULT_TENANT, KINDS, Topic
from pipai_contracts.record import Record
from pipai_contracts.upcast import NewerVersionError
from services.admin.archive import require_own_archive
from services.admin.command import DONE, Command, Deployment, RefusedError
from services.admin.progress import Progress
from services.admin.selection import moment
from services.admin.words import counted, plain

MOST: Final = 10_000
"""Events republished in one go."""

_TOLD: Final = 10
"""Topics a dry run names."""

_REMEMBERED: Final = 24 * 3600
"""Seconds in which a repeat of the same command publishes nothing twice."""


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--kind", choices=KINDS, help="of topics of this kind")
    parser.add_argument("--id", help="of topics with this id")
    parser.add_argument("--user", help="of topics this user owns, and about this user")
    parser.add_argument("--type", choices=get_args(EventType), help="of this type")
    parser.add_argument("--correlation", help="with this correlation id")
    parser.add_argument(
        "--from", dest="since", type=moment, required=True, metavar="TIME", help="appended then or later, RFC 3339"
    )
    parser.add_argument("--to", dest="until", type=moment, required=True, metavar="TIME", help="appended before")
    parser.add_argument("--confirm", metavar="WORDS", help="what a call without this says is to be typed here")


async def _republish(deployment: Deployment, chosen: Namespace) -> int:
    """Say what would be published again; with the right words, publish it."""
    wanted = Wanted(
        DEFAULT_TENANT, chosen.kind, chosen.id, chosen.user, chosen.type, chosen.correlation, chosen.since, chosen.until
    )
    await require_own_archive(deployment)
    rows = await _rows(deployment, wanted)
    records = [record for row in rows if (record := _record_of(deployment.keys, row)) is not None]
    _tell(records, left_out=len(rows) - len(records))
    words = f"republish {counted(len(records), 'event')}"
    if not records:
        return DONE
    if chosen.confirm is None:
        sys.stdout.write(f"nothing was published; to do it, call this again with --confirm {quote(words)}\n")
        return DONE
    if chosen.confirm != words:
        raise RefusedError(f"--confirm has to be {quote(words)}; nothing was published")
    audit = AuditLog(deployment.redis, deployment.keys)
    begun = await audit.write("republish", {"wanted": wanted.told(), "events": len(records)})
    published, repeated = await _publish(deployment, records, wanted)
    await audit.write("republish", {"published": published, "published before": repeated}, of=begun)
    again = f", {repeated} were already" if repeated else ""
    sys.stdout.write(f"{counted(published, 'event')} published{again}\n")
    return DONE


async def _rows(deployment: Deployment, wanted: Wanted) -> list[Row]:
    """What is wanted.

    Raises:
        RefusedError: that is too much.
    """
    rows: list[Row] = []
    async for row in deployment.history.find_all(wanted):
        rows.append(row)
        if len(rows) > MOST:
            raise RefusedError(f"more than {MOST:,} events are like that: choose fewer")
    return rows


def _record_of(keys: Keys, row: Row) -> Record | None:
    """The event; None for one that is in no view, or that this build cannot read."""
    try:
        own = Topic.parse(f"{row.tenant}:{row.topic}")
        source = keys.source(row.stream, partition_of(own, keys.partitions))
        return None if row.parked else decode_row(source, row)
    except (UndecodableEntryError, NewerVersionError, ValueError):
        return None


def _tell(records: Sequence[Record], *, left_out: int) -> None:
    topics = Counter(record.envelope.topic.name for record in records)
    types = Counter(record.envelope.event.type for record in records)
    sys.stdout.write(f"{counted(len(records), 'event')} of {counted(len(topics), 'topic')}\n")
    for name, count in types.items():
        sys.stdout.write(f"  {count} {name}\n")
    for name, count in topics.most_common(_TOLD):
        sys.stdout.write(f"  {count} of {plain(name)}\n")
    if len(topics) > _TOLD:
        sys.stdout.write(f"  and {counted(len(topics) - _TOLD, 'further topic')}\n")
    if records:
        sys.stdout.write(f"  from {records[0].stream_id.time} to {records[-1].stream_id.time}\n")
    if left_out:
        sys.stdout.write(f"{left_out} left out that are in no view\n")


async def _publish(deployment: Deployment, records: Sequence[Record], wanted: Wanted) -> tuple[int, int]:
    """Append the events as new ones; returns how many, and how many an earlier call of the same had appended."""
    appender = Appender(
        deployment.redis, deployment.keys, idempotency_window=_REMEMBERED, owner_ttl=deployment.settings.view_ttl
    )
    progress, published, repeated = Progress("events published"), 0, 0
    for start in range(0, len(records), MAX_PER_CALL):
        page = [_again(record, wanted) for record in records[start : start + MAX_PER_CALL]]
        for answer in await appender.append(page):
            repeated, published = repeated + answer.duplicate, published + (not answer.duplicate)
        progress.step(len(page))
    return published, repeated


def _again(record: Record, wanted: Wanted) -> Envelope:
    """The event as one that happens now, with an id that is the same for the same command."""
    old = record.envelope
    digest = blake2b(json.dumps([wanted.told(), record.source, str(record.stream_id)]).encode(), digest_size=16)
    return old.changed(event_id=f"republished {digest.hexdigest()}", time=now(), causation_id=old.event_id)


REPUBLISH: Final = Command(
    "republish", "publish events of the past once more: rare, and dangerous", _add_arguments, _republish
)
