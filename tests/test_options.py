"""The options of `fasttail train` are names for keys of the configuration: each sets its own."""

from typing import Any

import pytest
import typer

from fasttail import recipes
from fasttail.cli import app
from fasttail.config import DEFAULTS
from fasttail.errors import UserError, unknown
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


@pytest.mark.parametrize(
    ("stage", "flags", "settings", "said"),
    [
        ("rep", {"lr": -1.0}, (), "--lr: input should be greater than 0, not -1.0"),
        ("rep", {"batch_size": 0}, (), "--batch-size: input should be greater than"),
        ("cls", {"epochs": 0}, (), "--epochs: input should be greater than"),
        ("rep", {}, ("optim.lr=-1",), "--set: optim.lr: input should be greater than 0, not -1"),
    ],
)
def test_an_error_names_the_option_that_was_typed(
    stage: str, flags: dict[str, Any], settings: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UserError) as error:
        configure(TrainOptions(stage=stage, flags=flags, settings=settings), DEFAULTS)
    assert str(error.value).startswith(said)
    assert "optim" not in str(error.value) or settings


def test_of_many_names_the_five_nearest_are_shown() -> None:
    names = [f"net{number}" for number in range(1300)] + ["resnet50", "resnet50d", "resnet51"]
    said = str(unknown("backbone", "resnet5O", names))
    assert said.startswith("unknown backbone 'resnet5O': the nearest of 1,303 are resnet5")
    assert said.count(",") == 1 + 4
    assert {"resnet50", "resnet50d", "resnet51"} <= set(said.replace(",", "").split())
