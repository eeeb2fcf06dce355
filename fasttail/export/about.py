"""What an exported classifier says of itself: all that is needed to use it and to know its origin.

In every format it is the same JSON object: the description of a `state` file, the extra file
`fasttail.json` of a `pt2`, the metadata entry `fasttail` of an `onnx`.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import fasttail
from fasttail import rundir
from fasttail.classify.head import Head
from fasttail.classify.scoring import WITHOUT_PROBABILITIES
from fasttail.errors import UserError
from fasttail.plan import View
from fasttail.plans import eval_view, normalisation
from fasttail.rundir import Run
from fasttail.shards import Shards
from fasttail.shards.image import Rule

VERSION = 1
NUMBERS = ("split", "images", "all_micro", "all_macro", "many", "medium", "few", "note")


class FileRule(BaseModel):
    """How an image file becomes pixels: as it did when the training's shards were made
    (`ConvertConfig` has these words)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    exif: Literal["ignore", "apply"]
    progressive: Literal["baseline", "keep"] = "keep"  # so older shards did, which don't say
    max_side: int | None = Field(ge=8)
    jpeg_quality: int = Field(ge=1, le=100)
    raw_below_px: int = Field(ge=0)
    max_pixels: int = Field(ge=1)

    def rule(self) -> Rule:
        """For `shards.image.prepare`; every image is decoded once, so that damage is found."""
        return Rule(check="decode", seek_spacing=0, **self.model_dump())


class About(BaseModel):
    """The description. `mean` and `std` are inside the network; they are named for the reader.

    `outputs`: "logits" make probabilities by softmax; "scores" (NCM's similarities) only rank.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["fasttail-export"] = "fasttail-export"
    version: Literal[1] = VERSION
    written_by: str
    dataset: str
    backbone: str
    method: str
    note: str
    outputs: Literal["logits", "scores"]
    class_names: tuple[str, ...] = Field(min_length=1)
    input: str
    px: int = Field(ge=1, le=65500)
    view: Literal["center", "whole"]
    resize_px: int = Field(ge=1, le=65500)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    transform: Literal["un", "l2n", "cl2n"]
    files: FileRule
    accuracy: tuple[dict[str, Any], ...]
    provenance: dict[str, Any]

    @staticmethod
    def of(run: Run, shards: Shards, head: Head) -> "About":
        """The description of a run's head."""
        view = eval_view(run.config.data)
        px = run.config.data.px
        made = shards.meta.made
        mean, std = normalisation(run.config.data, shards)
        return About(
            written_by=f"fasttail {fasttail.__version__}",
            dataset=run.dataset,
            backbone=run.config.model.backbone,
            method=head.name,
            note=head.note_for(""),
            outputs="scores" if head.method in WITHOUT_PROBABILITIES else "logits",
            class_names=run.class_names,
            input=f"float32 RGB [batch, 3, {px}, {px}], values in 0..1",
            px=px,
            view="whole" if view.kind == "whole" else "center",
            resize_px=view.resize_px,
            mean=mean,
            std=std,
            transform=head.transform,  # type: ignore[arg-type] - pydantic checks it
            files=FileRule.model_validate({k: made[k] for k in FileRule.model_fields if k in made}),
            accuracy=tuple(
                {name: row[name] for name in NUMBERS}
                for row in run.rows()
                if (row["method"], row["protocol"]) == (head.method, head.protocol)
            ),
            provenance=rundir.provenance(),
        )

    @staticmethod
    def read(text: str, where: str) -> "About":
        """A description out of a file. `UserError` if it is none, or another version's."""
        try:
            return About.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(step) for step in first["loc"])
            raise UserError(
                f"{where}: no description of an exported classifier that fasttail "
                f"{fasttail.__version__} reads: {key}: {first['msg']}"
            ) from None

    def eval_view(self) -> View:
        """The part of an image that the network is given."""
        if self.view == "whole":
            return View.whole(out_px=self.px)
        return View.center(out_px=self.px, resize_px=self.resize_px)
