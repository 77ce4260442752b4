"""A stretch of the log on its way into views."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from core.log.entry import Entry, decode
from core.log.errors import UndecodableEntryError
from core.log.keys import Source
from core.views.project import Folded
from core.views.stored import Update
from pipai_contracts.record import Record, StreamId
from pipai_contracts.upcast import NewerVersionError


@dataclass(slots=True)
class Stretch:
    """Entries of one source that follow each other, folded and not yet committed.

    ``unfit`` are those that are no event or that a fold could not take, by stream id; ``parked`` those that are dead
    letters already. ``newer`` is set when an event of
    a newer build came after them: it is not in the stretch.
    """

    source: Source
    entries: Sequence[Entry]
    newer: NewerVersionError | None
    records: list[Record]
    unfit: dict[StreamId, Exception]
    parked: set[StreamId]
    updates: list[Update] = field(default_factory=list[Update])

    def settle(self, folded: Folded) -> None:
        """Take what a fold came to. An event that one view refused is to enter no other when that is folded again."""
        self.updates = folded.updates
        self.unfit.update({record.stream_id: error for record, error in folded.failed})
        if folded.failed:
            self.records = [record for record in self.records if record.stream_id not in self.unfit]


def decode_stretch(source: Source, entries: Sequence[Entry], parked: set[StreamId]) -> Stretch:
    """The entries as far as this build can read them: an event of a newer one, and what follows it, waits.

    Those that were ``parked`` before are in the stretch, and in no view.
    """
    records: list[Record] = []
    unfit: dict[StreamId, Exception] = {}
    for place, entry in enumerate(entries):
        if entry.stream_id in parked:
            continue
        try:
            records.append(decode(source, entry))
        except UndecodableEntryError as error:
            unfit[entry.stream_id] = error
        except NewerVersionError as error:
            return Stretch(source, entries[:place], error, records, unfit, parked)
    return Stretch(source, entries, None, records, unfit, parked)
