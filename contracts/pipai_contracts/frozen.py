"""Models that never change: another state is another object."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Base of views and of what folds keep."""

    model_config = ConfigDict(frozen=True)

    def changed(self, **changes: Any) -> Self:
        """A copy with these fields changed. They are not validated: folds take them from events, which were.

        As pydantic's `model_copy`, which takes three times as long because it copies what cannot change; a projector
        makes several of these for every event.
        """
        copy = object.__new__(type(self))
        object.__setattr__(copy, "__dict__", {**self.__dict__, **changes})
        object.__setattr__(copy, "__pydantic_fields_set__", self.__pydantic_fields_set__)
        object.__setattr__(copy, "__pydantic_extra__", None)
        object.__setattr__(copy, "__pydantic_private__", None)
        return copy
