"""What all sections of the configuration have in common, and the numbers that people write."""

import re
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

MOST = 2**63 - 1  # of a whole number: arrays hold no larger one


class Section(BaseModel):
    """A part of the configuration: read-only once made, no key it does not know, and numbers that
    arithmetic can be done with."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )

    @field_validator("*")
    @classmethod
    def _not_too_large(cls, value: object) -> object:
        if isinstance(value, int) and value > MOST:
            raise ValueError(f"a whole number is at most {MOST}")
        return value


def as_bytes(given: object) -> object:
    """`"4GiB"` -> 4294967296; a plain number is bytes already."""
    if not isinstance(given, str):
        return given
    match = re.fullmatch(r"\s*([\d.]+)\s*([KMGT]?)(i?)B?\s*", given, re.IGNORECASE)
    if match is None or match[1].count(".") > 1 or match[1] == ".":
        raise ValueError(f"{given!r} is no size: write it like 4GiB, 500MB or 1048576")
    step = 1024 if match[3] else 1000
    return int(Decimal(match[1]) * step ** " KMGT".index(match[2].upper() or " "))


Bytes = Annotated[int, BeforeValidator(as_bytes)]

Positive = Annotated[float, Field(gt=0)]
Unit = Annotated[float, Field(ge=0, le=1)]
Power = Annotated[float, Field(ge=0, le=100)]  # of norms and frequencies: floats hold no larger one
