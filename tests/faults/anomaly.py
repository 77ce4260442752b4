"""What a checker finds."""

from typing import Literal, NamedTuple

Name = Literal[
    "lost-write",
    "silent-loss",
    "duplicate",
    "split-place",
    "aborted-read",
    "phantom",
    "misplaced",
    "reordered",
    "hole",
    "untold-epoch",
    "unmatched-generation",
    "split-position",
    "late-terminal",
    "wrong-view",
    "gap",
    "repeat",
    "unmatched-reset",
    "foreign-cursor",
    "stale-viewer",
    "forgotten-cursor",
    "wrong-state",
    "untold-outage",
    "unmatched-warning",
]
"""
lost-write: acknowledged, kept by Redis, and in a view it belongs to it is not. silent-loss: Redis lost it and nobody
told. duplicate: in a view twice. split-place: one event answered with two places. aborted-read: refused, and seen.
phantom: seen, and nobody published it. misplaced: applied from another place than the producer was answered.
reordered: a view took events of one source in another order than the log's. hole: positions of a view that are not
1, 2, 3 …. untold-epoch: another epoch without another generation. unmatched-generation: a loss was told where none
can have been. split-position: one (topic, epoch, pos) with two payloads. late-terminal: an event counted though its
run had ended. wrong-view: a view is not the fold of what it took in. gap, repeat: a viewer's next position is not the
next one. unmatched-reset: a viewer was told of a loss where none can have been, or of being slow though it read all
the while. foreign-cursor: the answer resumes from where the viewer was not. stale-viewer: all was quiet, and the viewer
was not at the end. forgotten-cursor: the viewer said where it was, and was shown the state as if it came for the first
time. wrong-state: the state a viewer was shown is not the fold of what lies before its cursor. untold-outage: Redis was
away and the viewer did not hear of it. unmatched-warning: the viewer was told that Redis is away when it never was, or
that it is back without a word of its absence, or it never heard that it is back; or of either before `connected`.
"""


class Anomaly(NamedTuple):
    """Something that must never be: its name, and where."""

    name: Name
    what: str
