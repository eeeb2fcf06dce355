"""The JSON that runs and studies keep, checked as it is read: it is text, and text gets edited.

A form names what the program relies on; what else stands there is kept as it is.
"""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fasttail.errors import UserError


class Form(BaseModel):
    """What a JSON object has to hold."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


Count = Annotated[int, Field(ge=0, lt=2**63)]


class Provenance(Form):
    """See `rundir.provenance`; of whatever version."""

    command: str = ""
    packages: dict[str, str | None] = {}


class RunJson(Form):
    """run.json."""

    dataset: str
    shards: str
    shards_digest: str
    class_names: list[str] = Field(min_length=1)
    init: str | None = None
    frozen: dict[str, Any] | None = None
    config: dict[str, Any]
    provenance: Provenance = Provenance()


class Stage2Json(Form):
    """stage2.json."""

    config: dict[str, Any]
    provenance: Provenance = Provenance()


class EngineJson(Form):
    """engine.json."""

    engine: str


class Row(Form):
    """A method's numbers on a split, in percent; None for a shot group without classes."""

    method: str
    split: str
    protocol: str
    note: str
    images: Count
    all_micro: float
    all_macro: float
    many: float | None
    medium: float | None
    few: float | None
    worst: float
    harmonic: float | None = None
    ece: float | None = None
    ece_many: float | None = None
    ece_medium: float | None = None
    ece_few: float | None = None


class MetricsJson(Form):
    """metrics.json."""

    rows: list[Row]


class StudyJson(Form):
    """study.json."""

    asked: dict[str, Any]


def read(path: Path, form: type[Form]) -> dict[str, Any]:
    """A JSON file as it stands. `UserError` if it is no JSON, or not of the form."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged: no JSON: {error}") from None
    return check(content, form, path)


def check(content: Any, form: type[Form], path: Path) -> dict[str, Any]:
    """`content`, which was read from a file, if it is of the form; else a `UserError`."""
    try:
        form.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "all of it"
        raise UserError(f"{path}: damaged: {key}: {first['msg']}") from None
    return content


def fits(content: Any, form: type[Form]) -> bool:
    """Whether a value is of the form."""
    try:
        form.model_validate(content)
    except ValidationError:
        return False
    return True


def says(path: Path, content: dict[str, Any]) -> bool:
    """Whether a JSON file is there and holds just this: a damaged one does not."""
    try:
        return json.loads(path.read_bytes()) == content
    except (FileNotFoundError, ValueError, RecursionError):
        return False
