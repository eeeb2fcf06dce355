"""From a recipe (a YAML file) and `--set` to a checked configuration.

A recipe may name another with `extends:`; what it says itself wins, section by section. The recipes
that come with fasttail are in `configs/`, one for each (data set, backbone).
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from fasttail import added
from fasttail.config import DEFAULTS, TrainConfig
from fasttail.errors import UserError, unknown

MAX_RECIPE_BYTES = 1 << 20
SMALL_IMAGE_PX = 64


class _Loader(yaml.SafeLoader):
    """YAML without aliases, by which a file of a few bytes could grow without bound; without tags,
    which make of a text what it is not; and with each key once, since of two the first would be
    dropped without a word."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read")
        if getattr(event, "tag", None) is not None:
            raise yaml.YAMLError(f"tags are not read: {event.tag}")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise yaml.YAMLError(f"{key.value!r} in line {line} was there before")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def directory() -> Path:
    """Where fasttail's own recipes are."""
    return Path(__file__).parent / "configs"


def names() -> list[str]:
    """The recipes that come with fasttail, by name."""
    return sorted(path.stem for path in directory().glob("*.yaml"))


def for_dataset(dataset: str, image_px: int) -> str:
    """The recipe for a data set: its own where there is one, else by the size of its images."""
    if dataset in names():
        return dataset
    return "small-images" if image_px <= SMALL_IMAGE_PX else "photos"


def load(recipe: str | Path, settings: Iterable[str] = ()) -> TrainConfig:
    """Reads a recipe by name or file, applies `section.key=value` settings, and checks it all.

    Raises `UserError` naming the file or setting, the key and what it may be.
    """
    values = _read(_locate(recipe), seen=())
    for key, value in parse_settings(settings).items():
        values = _merge(values, _nested(key, value))
    return check(values, str(recipe))


def change(
    config: TrainConfig,
    changes: Mapping[str, Any],
    options: Mapping[str, str] = MappingProxyType({}),
) -> TrainConfig:
    """A configuration with other values, by dotted key: `{"optim.lr": 0.1}`. `options` are those by
    which keys were given other than by `--set`: `{"optim.lr": "--lr"}`."""
    values = config.model_dump()
    for key, value in changes.items():
        values = _merge(values, _nested(key, value))
    return check(values, "--set", options)


def check(
    values: Mapping[str, Any], where: str, options: Mapping[str, str] = MappingProxyType({})
) -> TrainConfig:
    """The configuration that these values make; `UserError` in one line if they make none. A key
    that is in `options` is called by its option there."""
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"])
        if key in options:
            raise UserError(f"{options[key]}: {_reason(error)}") from None
        raise UserError(f"{where}: {_explain(error)}") from None


def differences(before: Any, now: Any, key: str = "") -> Iterator[str]:
    """The dotted keys whose values differ."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in [*before, *(name for name in now if name not in before)]:
            dotted = f"{key}.{name}" if key else name
            yield from differences(before.get(name), now.get(name), dotted)
    elif before != now:
        yield key


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """`["optim.lr=0.1"]` -> `{"optim.lr": 0.1}`; the values are read as YAML."""
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not all(key.split(".")):
            raise UserError(f"--set {setting}: write it as section.key=value, as in optim.lr=0.1")
        value: Any = _parse(text, f"--set {key}")
        changes[key] = _number(value) if isinstance(value, str) else value
    return changes


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _number(text: str) -> str | float:
    """YAML 1.1 takes 2e-4 for a word; everybody else for a number."""
    try:
        return float(text)
    except ValueError:
        return text


def _locate(recipe: str | Path) -> Path:
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"{path}: no such configuration file; fasttail's own: {_list()}")
        return path
    own = directory() / f"{recipe}.yaml"
    if not own.is_file():
        raise unknown("configuration", str(recipe), names())
    return own


def _list() -> str:
    return ", ".join(names())


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # of 2020-99-99, say
        reason = " ".join(str(error).split())
        raise UserError(f"{where}: not readable as YAML: {reason}") from None


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise UserError(f"{path}: extends itself: {' -> '.join(p.name for p in seen)}")
    if path.stat().st_size > MAX_RECIPE_BYTES:
        raise UserError(f"{path}: larger than {MAX_RECIPE_BYTES} bytes: is it a configuration?")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: can't be read: {error}") from None
    values = _parse(text, str(path)) or {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: a configuration is `key: value` lines")
    base = values.pop("extends", None)
    if base is None:
        return values
    base_path = path.parent / f"{base}.yaml"
    if not base_path.is_file():
        base_path = _locate(str(base))
    return _merge(_read(base_path, (*seen, path.resolve())), values)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = _merge(below, value)
        merged[key] = value
    return merged


def _explain(error: ValidationError) -> str:
    """The first thing that is wrong, in one line, with the choices."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        meant = [other for other in keys() if other.rpartition(".")[2] == key.rpartition(".")[2]]
        if meant:
            return f"unknown key {key!r}: did you mean {' or '.join(meant)}?"
        section = _section(first["loc"][:-1])
        return str(unknown("key", key, _dotted(section, first["loc"][:-1])))
    more = error.error_count() - 1
    rest = f" (and {more} more)" if more else ""
    return f"{key or 'configuration'}: {_reason(error)}{rest}"


def _reason(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{first['msg'][0].lower()}{first['msg'][1:]}, not {first['input']!r}"


def keys() -> dict[str, FieldInfo]:
    """Every key of the configuration, dotted, and what is declared of it."""

    def below(section: type[BaseModel], path: str) -> Iterator[tuple[str, FieldInfo]]:
        for name, field in section.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from below(inner, f"{path}{name}.")
            else:
                yield f"{path}{name}", field

    return dict(below(TrainConfig, ""))


def reference(config: TrainConfig = DEFAULTS) -> list[dict[str, Any]]:
    """Every key with its value in a configuration, its default, and what it means."""
    values = config.model_dump(mode="json")
    defaults = DEFAULTS.model_dump(mode="json")

    def at(values: Any, key: str) -> Any:
        for part in key.split("."):
            values = values[part]
        return values

    return [
        {
            "key": key,
            "value": at(values, key),
            "default": at(defaults, key),
            "choices": list(get_args(field.annotation))
            if get_origin(field.annotation) is Literal
            else None,
            "description": added.told(field.description or "", key),
        }
        for key, field in keys().items()
    ]


def _section(path: Iterable[int | str]) -> type[BaseModel]:
    section: type[BaseModel] = TrainConfig
    for part in path:
        annotation = section.model_fields[str(part)].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            section = annotation
    return section


def _dotted(section: type[BaseModel], path: Iterable[int | str]) -> list[str]:
    return [".".join([*map(str, path), name]) for name in section.model_fields]
