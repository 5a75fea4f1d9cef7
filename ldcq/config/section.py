"""What all sections of the configuration are made of."""

from __future__ import annotations

from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
Octaves = Annotated[int, Field(ge=0, le=16)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
PositiveFloat = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1)]
Widths = Annotated[tuple[Positive, ...], Field(min_length=1)]


_NUMBERS = {int, float, NoneType}


class Section(BaseModel):
    """Frozen, and an unknown key is an error; a truth value is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, given: object) -> object:
        for name, value in given.items() if isinstance(given, dict) else ():
            field = cls.model_fields.get(name)
            parts = value if isinstance(value, list | tuple) else (value,)
            if field and bool in map(type, parts) and _leaves(field.annotation) <= _NUMBERS:
                raise ValueError(f"{name} is {value!r}, expected a number")
        return given


def _leaves(annotation: Any) -> set[Any]:
    """The types that an annotation is made of in the end."""
    parts = [part for part in get_args(annotation) if part is not Ellipsis]
    if get_origin(annotation) is Annotated:
        parts = parts[:1]
    return set().union(*map(_leaves, parts)) if parts else {annotation}
