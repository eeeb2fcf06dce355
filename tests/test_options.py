"""The options of `fasttail train` are names for keys of the configuration: each sets its own."""

from typing import Any

import pytest
import typer

from fasttail import recipes
from fasttail.cli import app
from fasttail.config import DEFAULTS
from fasttail.errors import UserError
from fasttail.stages import TrainOptions
from fasttail.stages.options import FLAGS, configure

# One value for each that is nobody's default.
VALUES: dict[str, Any] = {
    "backbone": "resnet18",
    "sampler": "sqrt",
    "loss": "ldam-drw",
    "epochs": 3,
    "batch_size": 64,
    "lr": 0.037,
    "px": 96,
    "features": "images",
    "views": 7,
    "seed": 11,
    "protocol": "official",
    "draws": "iid",
    "engine": "reference",
}


def values(config: Any) -> dict[str, Any]:
    return {row["key"]: row["value"] for row in recipes.reference(config)}


@pytest.mark.parametrize("stage", ["rep", "cls"])
@pytest.mark.parametrize("name", FLAGS)
def test_an_option_sets_its_keys_and_nothing_else(name: str, stage: str) -> None:
    keys = getattr(FLAGS[name], stage)
    options = TrainOptions(stage=stage, flags={name: VALUES[name]})
    if not keys:
        option = name.replace("_", "-")
        with pytest.raises(UserError, match=f"--{option} is an option of the other stage"):
            configure(options, DEFAULTS)
        return
    before, after = values(DEFAULTS), values(configure(options, DEFAULTS))
    assert {key: after[key] for key in after if after[key] != before[key]} == dict.fromkeys(
        keys, VALUES[name]
    )


def test_every_option_for_a_key_is_one_of_the_commands() -> None:
    program: Any = typer.main.get_command(app)
    parameters = {parameter.name for parameter in program.commands["train"].params}
    assert parameters >= set(FLAGS)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["--stage", "cls", "--features", "images"], "classify.features"),
        (["--stage", "cls", "--views", "7"], "classify.views"),
        (["--stage", "rep", "--lr", "0.037"], "optim.lr"),
        (["--stage", "rep", "--batch-size", "64"], "optim.batch_size"),
    ],
)
def test_what_is_typed_arrives(
    arguments: list[str], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fasttail import stages

    asked: list[TrainOptions] = []
    monkeypatch.setattr(stages, "train", asked.append)
    app(["train", *arguments], standalone_mode=False)
    found = values(configure(asked[0], DEFAULTS))[key]
    assert found == VALUES[arguments[2].strip("-").replace("-", "_")]
    assert found != values(DEFAULTS)[key]
