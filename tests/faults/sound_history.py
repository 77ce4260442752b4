"""A history in which nothing is wrong, to plant faults in."""

from core.log.keys import Keys
from core.views.folds import State, evolve, initial, render
from pipai_contracts.cursor import Cursor
from pipai_contracts.envelope import encode_data
from pipai_contracts.frames import wire_data
from pipai_contracts.record import Record, StreamId
from tests.core.telling import Told, analysis, notice, step
from tests.faults.history import Answered, AnyHappening, Applied, Connected, Connecting, Invoked, Kept, Received, Rest
from tests.faults.timeline import topics_of

KEYS = Keys()
EPOCH = "0000000a"
NEXT_EPOCH = "0000000b"
WORKFLOW = "default:workflow:w"
ADA = "default:user:ada"
CHANGE = 1000

EVENTS = [
    step(0, of="w", run="a", message="e0").by("ada"),
    step(50, of="w", run="a", message="e1").by("ada"),
    analysis(50, of="f", message="e2"),
    step(100, of="w", run="a", message="e3").by("ada"),
    notice("hello", of="ada", message="e4"),
    step(100, of="w", run="a", message="e5").by("ada"),
    step(0, of="w", run="b", message="e6").by("ada"),
]
LATE = {"e5"}


def wire(told: Told, number: int) -> str:
    """The event's data as viewers get it; its id is ``e<number>``."""
    envelope = told.envelope(f"e{number}", number)
    late = envelope.event_id in LATE
    return wire_data(encode_data(told.event), timestamp=envelope.time, run_id=envelope.run_id, late=late).decode()


def sound_history() -> list[AnyHappening]:
    """Seven events, each acknowledged, applied, and seen by the viewers ``v`` (the workflow) and ``u`` (the user)."""
    history: list[AnyHappening] = [
        Connecting(at=0, viewer="v", topic=WORKFLOW, cursor=None),
        Connected(at=0, viewer="v", cursor="0", resumed=False),
        Connecting(at=0, viewer="u", topic=ADA, cursor=None),
        Connected(at=0, viewer="u", cursor="0", resumed=False),
    ]
    positions: dict[str, int] = {}
    states: dict[str, State] = {}
    change = CHANGE
    for number, told in enumerate(EVENTS):
        envelope = told.envelope(f"e{number}", number)
        source = KEYS.source_of(told.event.type, envelope.topic)
        stream_id = f"{number + 1}-0"
        history.append(Invoked(at=number, op=number, event_id=f"e{number}", envelope=envelope))
        place = {"stream": source.key, "stream_id": stream_id, "offset": number + 1}
        history.append(Answered.model_validate({"at": number, "op": number, "outcome": "ok", **place}))
        data = wire(told, number)
        record = Record.of(source.name, StreamId(number + 1, 0), number + 1, envelope, encode_data(told.event))
        for topic in topics_of(envelope):
            pos = positions[topic.path] = positions.get(topic.path, 0) + 1
            change += 1
            fields = {"at": number, "topic": topic.path, "epoch": EPOCH, "pos": pos, "event": told.event.type}
            more = {"partition": 0, "change": change, "stream_id": stream_id, "data": data}
            history.append(Applied.model_validate({**fields, **more}))
            states[topic.path] = evolve(states.get(topic.path, initial(topic)), record)
            viewer = {WORKFLOW: "v", ADA: "u"}.get(topic.path)
            if viewer:
                cursor = str(Cursor(EPOCH, pos))
                history.append(Received(at=number, viewer=viewer, cursor=cursor, event=told.event.type, data=data))
    for topic, pos in positions.items():
        view = render(states[topic]).model_dump_json()
        history.append(Rest(at=99, topic=topic, cursor=str(Cursor(EPOCH, pos)), view=view))
    kept = tuple(f"{number + 1}-0" for number in range(len(EVENTS)))
    return [*history, *(Kept(at=99, stream=source.key, stream_ids=kept) for source in KEYS.sources())]
