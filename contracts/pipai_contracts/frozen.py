"""Models that never change: another state is another object."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict

_set = object.__setattr__


class Frozen(BaseModel):
    """Base of views and of what folds keep."""

    model_config = ConfigDict(frozen=True)

    def changed(self, **changes: Any) -> Self:
        """A copy with these fields changed. They are not validated: folds take them from events, which were.

        As pydantic's `model_copy`, which takes three times as long because it copies what cannot change; a projector
        makes several of these for every event.
        """
        return self._made({**self.__dict__, **changes}, self.__pydantic_fields_set__)

    @classmethod
    def of_valid(cls, fields: dict[str, Any]) -> Self:
        """An instance with these fields, which are all it has. They are not validated: the caller has done it."""
        return cls._made(fields, set(fields))

    @classmethod
    def _made(cls, fields: dict[str, Any], given: set[str]) -> Self:
        made = object.__new__(cls)
        _set(made, "__dict__", fields)
        _set(made, "__pydantic_fields_set__", given)
        _set(made, "__pydantic_extra__", None)
        _set(made, "__pydantic_private__", None)
        return made
