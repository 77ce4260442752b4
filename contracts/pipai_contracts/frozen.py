"""Models that never change: another state is another object."""

from functools import cache
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

_new = object.__new__
# What a model consists of, set past its ban on changes and in the shortest way there is.
_set_fields, _set_given, _set_extra, _set_private = (
    vars(BaseModel)[name].__set__
    for name in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)


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
        return cls._made(fields, _names_of(cls))

    @classmethod
    def _made(cls, fields: dict[str, Any], given: set[str]) -> Self:
        made = _new(cls)
        _set_fields(made, fields)
        _set_given(made, given)
        _set_extra(made, None)
        _set_private(made, None)
        return made


@cache
def _names_of(model: type[BaseModel]) -> set[str]:
    """The names of all its fields: one set for every instance, since none changes."""
    return set(model.model_fields)
