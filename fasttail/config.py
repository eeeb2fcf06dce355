"""Every default of fasttail, and the reading of YAML files that change them.

A configuration file is YAML; unknown keys and wrong types are refused with the choices named.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of the configuration: read-only once made, and no key it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class ConvertConfig(Section):
    """How a data set becomes shards (`fasttail convert`)."""

    jobs: int = Field(0, ge=0, description="worker processes; 0: as many as there are cores")
    imbalance: float | None = Field(
        None, ge=1, description="imbalance factor for data sets that are made long-tailed"
    )
    max_side: int | None = Field(
        None, ge=8, description="shrink images whose longer side is above this, in pixels"
    )
    on_bad: Literal["fail", "skip"] = "fail"
    jpeg_quality: int = Field(95, ge=1, le=100, description="where an image has to be re-encoded")
    seed: int = Field(0, ge=0, description="of the held-out part and of the long tail's choice")
