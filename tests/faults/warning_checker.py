"""What must be true of what viewers were told of Redis being away, and being back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.faults.anomaly import Anomaly
from tests.faults.history import AnyHappening, Connected, Connecting, Fault, Slept, Warned


@dataclass
class _Stream:
    """A viewer's stream; ``degraded``: by what it heard last; ``owed``: Redis is away and it has not heard so."""

    connected: bool = False
    heard: bool = False
    degraded: bool = False
    owed: bool = False
    asleep: bool = False


def warning_anomalies(history: Sequence[AnyHappening]) -> Iterator[Anomaly]:
    """Whatever viewers were told without a reason, or not told."""
    streams: dict[str, _Stream] = {}
    was_broken = False
    for happening in history:
        match happening:
            case Connecting(viewer=viewer):
                streams[viewer] = _Stream(asleep=viewer in streams and streams[viewer].asleep)
            case Connected(viewer=viewer):
                streams[viewer].connected = True
            case Slept(viewer=viewer, phase=phase):
                streams[viewer].asleep = phase == "begin"
            case Warned():
                yield from _warn(streams[happening.viewer], happening, was_broken=was_broken)
            case Fault():
                was_broken = True
                if happening.hides:
                    yield from _hide(streams, happening)
            case _:
                pass
    for viewer, stream in streams.items():
        if stream.degraded and not stream.asleep:
            yield Anomaly("unmatched-warning", f"{viewer} was told that Redis is away, and never that it is back")


def _warn(stream: _Stream, told: Warned, *, was_broken: bool) -> Iterator[Anomaly]:
    if not stream.connected:
        yield Anomaly("unmatched-warning", f"{told.viewer} was told {told.code} before anything else")
    if told.code == "degraded" and not was_broken:
        yield Anomaly("unmatched-warning", f"{told.viewer} was told degraded, and nothing was broken")
    if told.code == "recovered" and not stream.heard:
        yield Anomaly("unmatched-warning", f"{told.viewer} was told recovered, and never degraded")
    stream.degraded = told.code == "degraded"
    stream.heard = stream.heard or stream.degraded
    stream.owed = False


def _hide(streams: dict[str, _Stream], fault: Fault) -> Iterator[Anomaly]:
    for viewer, stream in streams.items():
        if fault.phase == "end" and stream.owed and not stream.asleep:
            yield Anomaly("untold-outage", f"{viewer} did not hear of: {fault.name}")
        stream.owed = fault.phase == "begin" and stream.connected
