from pathlib import Path

import pytest
import yaml

from fasttail import models, recipes
from fasttail.errors import UserError


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_makes_a_configuration_with_a_backbone_that_exists(name: str) -> None:
    config = recipes.load(name)
    assert config.model.backbone in models.BACKBONES
    header = (recipes.directory() / f"{name}.yaml").read_text().split("\n\n")[0]
    assert "fasttail" in header, "a recipe's header has its command"


def test_a_recipe_extends_another_and_its_own_words_win(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("optim: {lr: 0.5, epochs: 3}\nseed: 4\n")
    (tmp_path / "mine.yaml").write_text("extends: base\noptim: {lr: 0.25}\n")
    config = recipes.load(tmp_path / "mine.yaml", ["optim.momentum=0.8"])
    assert (config.optim.lr, config.optim.epochs, config.optim.momentum) == (0.25, 3, 0.8)
    assert config.seed == 4


def test_a_data_set_has_its_own_recipe_or_one_for_the_size_of_its_images() -> None:
    assert recipes.for_dataset("places-lt", 2000) == "places-lt"
    assert recipes.for_dataset("folder", 32) == "small-images"
    assert recipes.for_dataset("folder", 500) == "photos"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("optim.lrr=1", r"unknown key 'optim.lrr' \(did you mean 'optim.lr'\?\)"),
        ("lr=0.1", "unknown key 'lr': did you mean optim.lr or classify.crt.lr or"),
        ("optim.px=64", "did you mean data.px"),
        ("samplr=sqrt", "did you mean 'sampler'"),
        ("optim.epochs=many", "optim.epochs: .*valid integer"),
        ("protocol=fast", "'clean' or 'official'"),
        ("optim", "section.key=value"),
        ("shots.few_below=200", "a class would be in both groups"),
        ("seed=18446744073709551616", "seed: .*at most 9223372036854775807"),
        ("seed=" + "9" * 5000, "--set seed: not readable as YAML: .*5000 digits"),
        ("optim.lr=inf", "optim.lr: .*finite number"),
        ("loss.adjustment_tau=.inf", "loss.adjustment_tau: .*finite number"),
        ("data.scale=[.nan, 1]", "data.scale.0: .*finite number"),
        ("data.px=1000000000", "data.px: .*65500"),
        ("optim.accumulate=9223372036854775807", "optim.accumulate: .*65536"),
        ("classify.tau.grid_max=1e308", "classify.tau.grid_max: .*100"),
        ("classify.adjust_tau=1e308", "classify.adjust_tau: .*100"),
        ("data.threads=100000", "data.threads: .*1024"),
        ('seed=!!int "abc"', "--set seed: not readable as YAML: tags are not read"),
        ("seed=!!timestamp x", "--set seed: not readable as YAML: tags are not read"),
        ("seed=2020-99-99", "--set seed: not readable as YAML: month must be in 1..12"),
        ("optim={? [1]: 2}", "--set optim: not readable as YAML: .*unhashable key"),
        ("optim={lr: 1, lr: 2}", "--set optim: not readable as YAML: 'lr' in line 1 was there"),
    ],
)
def test_a_wrong_setting_is_one_line_that_says_what_fits(setting: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        recipes.load("digits", [setting])
    assert "\n" not in str(caught.value)


def test_scientific_notation_is_a_number() -> None:
    assert recipes.load("digits", ["optim.weight_decay=2e-4"]).optim.weight_decay == 2e-4


def test_a_yaml_bomb_is_refused(tmp_path: Path) -> None:
    bomb = "a: &a [x, x]\n" + "\n".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]" for i in range(20)
    )
    assert yaml.safe_load(bomb)
    (tmp_path / "bomb.yaml").write_text(bomb)
    with pytest.raises(UserError, match="aliases"):
        recipes.load(tmp_path / "bomb.yaml")


def test_deep_nesting_and_loops_of_extends_end_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "deep.yaml").write_text("a: " + "[" * 5000)
    (tmp_path / "one.yaml").write_text("extends: two\n")
    (tmp_path / "two.yaml").write_text("extends: one\n")
    for name, message in (("deep", "not readable"), ("one", "extends itself")):
        with pytest.raises(UserError, match=message):
            recipes.load(tmp_path / f"{name}.yaml")


def test_a_repeated_section_or_key_is_refused_by_its_line(tmp_path: Path) -> None:
    twice = tmp_path / "twice.yaml"
    twice.write_text("optim:\n  lr: 0.5\nseed: 1\noptim:\n  epochs: 3\n")
    with pytest.raises(UserError, match="'optim' in line 4 was there before"):
        recipes.load(twice)
    twice.write_text("optim:\n  lr: 0.5\n  lr: 0.25\n")
    with pytest.raises(UserError, match="'lr' in line 3 was there before"):
        recipes.load(twice)
    twice.write_text("optim: {lr: 0.5, warmup_epochs: 1}\nclassify: {crt: {lr: 0.25}}\n")
    assert recipes.load(twice).classify.crt.lr == 0.25


def test_yaml_runs_no_code(tmp_path: Path) -> None:
    (tmp_path / "evil.yaml").write_text("seed: !!python/object/apply:os.getpid []\n")
    with pytest.raises(UserError, match="not readable"):
        recipes.load(tmp_path / "evil.yaml")


def test_every_key_says_what_it_means() -> None:
    rows = recipes.reference(recipes.load("places-lt"))
    for row in rows:
        assert row["description"], row["key"]
    found = {row["key"]: row for row in rows}
    assert found["model.trained"]["value"] == "last-block"
    assert found["model.trained"]["default"] == "all"
    assert found["model.trained"]["choices"] == ["all", "last-block", "classifier"]
    assert found["classify.lws.lr"]["default"] == 0.2
