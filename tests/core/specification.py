"""given(events).when(event).then(view): a fold told as sentences."""

from typing import Any, Self

from core.views.folds import State, decode_state, encode_state, evolve, initial, render
from pipai_contracts.ids import Topic
from pipai_contracts.views import AnyView
from tests.core.telling import Told, records


class Specification:
    """What becomes of one topic's view. Each state is stored and read back, as between two batches."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        self._told = 0
        self._before: State = initial(topic)
        self._after: State = self._before

    def when(self, *told: Told) -> Self:
        """These events come next."""
        for record in records(told, start=self._told + 1):
            self._before = self._after
            self._after = evolve(self._before, record)
            if self._after is not self._before:
                self._after = decode_state(self._topic.kind, encode_state(self._after))
        self._told += len(told)
        return self

    def then(self, **fields: Any) -> Self:
        """The view has these fields."""
        found = {name: getattr(self.view, name) for name in fields}
        assert found == fields, f"{found} instead of {fields}"
        return self

    def then_late(self) -> Self:
        """The last event came too late: the view is the very same."""
        assert self._after is self._before, f"{self._before} became {self._after}"
        return self

    @property
    def view(self) -> AnyView:
        """The view as viewers get it."""
        return render(self._after)


def given(*told: Told, topic: Topic | None = None) -> Specification:
    """A view that has heard these events; of the workflow ``w`` unless ``topic`` says otherwise."""
    return Specification(topic or Topic("default", "workflow", "w")).when(*told)
