"""The fold of each kind of view behind one form."""

from typing import assert_never

from core.views import file, user, workflow
from core.views.user import UserState
from pipai_contracts.ids import Kind, Topic
from pipai_contracts.record import Record
from pipai_contracts.views import AnyView, FileView, WorkflowView

State = WorkflowView | FileView | UserState
"""What a view is folded from and stored as. Workflow and file views are their own state."""


def initial(topic: Topic) -> State:
    """The state of a topic nobody heard of."""
    match topic.kind:
        case "workflow":
            return workflow.initial(topic.id)
        case "file":
            return file.initial(topic.id)
        case "user":
            return user.initial(topic.id)
        case _:
            assert_never(topic.kind)


def evolve(state: State, record: Record) -> State:
    """The state after one more event; the very same state when the event came too late to count."""
    match state:
        case WorkflowView():
            return workflow.evolve(state, record)
        case FileView():
            return file.evolve(state, record)
        case UserState():
            return user.evolve(state, record)
        case _:
            assert_never(state)


def render(state: State) -> AnyView:
    """The state as viewers get it."""
    return user.render(state) if isinstance(state, UserState) else state


def encode_state(state: State) -> bytes:
    """The stored form."""
    return state.__pydantic_serializer__.to_json(state)


def decode_state(kind: Kind, stored: bytes) -> State:
    """Read the stored form.

    Raises:
        pydantic.ValidationError: it is not of this kind.
    """
    match kind:
        case "workflow":
            return WorkflowView.model_validate_json(stored)
        case "file":
            return FileView.model_validate_json(stored)
        case "user":
            return UserState.model_validate_json(stored)
        case _:
            assert_never(kind)
