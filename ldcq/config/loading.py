"""YAML files, presets and `key=value` overrides to a validated `Config`, and back."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from ldcq.config.actor import MethodConfig
from ldcq.config.data import FILES
from ldcq.config.prior import PriorConfig
from ldcq.config.schema import Config

AnySection = TypeVar("AnySection", bound=BaseModel)
PRESETS = resources.files("ldcq.config") / "presets"
TASKS = Path(__file__).parents[2] / "configs" / "tasks"
"""Of the repository, and of an installed wheel, in which `configs` lies beside `ldcq`."""

OF_DATASET = {
    "data": ("generate", "observation_keys", "goal_indices", "reward"),
    "evaluation": ("environment", "score", "reference_scores"),
}
"""Keys, by section, that say something of one dataset."""
_REPLACED = (
    "variants",
    "evaluation.methods",
    "evaluation.environment",
    "evaluation.environment.kwargs",
)
"""Mappings that are replaced whole: names that a user gives, and what is of one environment."""


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key, what was given and what is
    allowed.
    """


def load(source: str | Path | Sequence[str | Path], overrides: Iterable[str] = ()) -> Config:
    """Reads a configuration.

    A file and an override follow one rule: a section changes the keys that it names; everything
    else replaces what was there, lists and the mappings `variants`, `evaluation.methods` and
    `evaluation.environment` included. Another `data.dataset` leaves behind what was said of the one
    before (`OF_DATASET`), unless both are generated alike. Where there is a `task`, that was said
    of the task and stays, and the differences of a file (`task.of_file`) or of generated data
    (`task.generated.settings`) are added.

    Args:
        source: A YAML file, or the name of a preset (`paper`, `demo`) or of a task
            (`hopper-medium`); or a list of these, each a change of those before it. The key `base`
            of a file names what it starts from in the same way, files relative to itself.
        overrides: `dotted.key=value` strings, applied last; values are YAML.

    Raises:
        ConfigError: The file is missing or no YAML, a key is unknown or a value is impossible.
    """
    tree = _read_all(source, Path.cwd())
    changes = []
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {text}: expected KEY=VALUE, for example vae.epochs=3")
        changes.append((key.strip(), _parse_yaml(value, f"--set {text}")))
    return _validate(_overridden(tree, changes))


def override(config: Config, changes: Mapping[str, object]) -> Config:
    """A copy of `config` with dotted keys changed, by the rule of `load`. Raises ConfigError like
    it.
    """
    return _validate(_overridden(config.model_dump(mode="json"), changes.items()))


def resolve_variant(config: Config, variant: str) -> Config:
    """The configuration of one of the pipelines that share a store: `main` is `config` itself.

    Raises:
        ConfigError: No such variant, or its overrides are not valid.
    """
    if variant == config.variant:
        return config
    if variant not in config.variants:
        known = ", ".join(["main", *config.variants])
        raise ConfigError(f"variant: {variant!r} is not defined; expected one of {known}")
    # Not `override`: that validates all variants, and each of them the others, without an end.
    changes = {**config.variants[variant], "variant": variant}
    return _parse(_overridden(config.model_dump(mode="json"), changes.items()))


def dump(config: Config) -> str:
    """The whole resolved configuration as YAML, every default spelled out but those that only a
    prior's implementation knows; `load` reads it back to an equal `Config`.
    """
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _read_all(sources: Any, folder: Path, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for source in [sources] if isinstance(sources, str | Path) else sources:
        whole = _merge(whole, _read(str(source), folder, seen))
    return whole


def _read(source: str, folder: Path, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    path = folder / source
    if _is_file(path):
        text, identity, parent = _text(path), str(path.resolve()), path.parent
    else:
        preset, task = PRESETS / f"{source}.yaml", TASKS / f"{source}.yaml"
        if _is_file(preset):
            text, identity, parent = preset.read_text(), f"preset {source}", folder
        elif source in tasks():
            text, identity, parent = task.read_text(), f"task {source}", TASKS
        else:
            raise _not_found(source)
    if identity in seen:
        raise ConfigError(
            f"base: {source!r} is its own ancestor ({' -> '.join([*seen, identity])})"
        )
    tree = _parse_yaml(text, source)
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: expected keys and values, got {type(tree).__name__}")
    base = tree.pop("base", None) or []
    if not isinstance(base, str) and not (
        isinstance(base, list) and all(isinstance(each, str) for each in base)
    ):
        raise ConfigError(f"base: {base!r} in {source}; expected a name or file, or a list of them")
    return _merge(_read_all(base, parent, (*seen, identity)), tree)


def _is_file(path: Any) -> bool:
    try:
        return bool(path.is_file())
    except OSError:  # no file can have such a name
        return False


def _not_found(source: str) -> ConfigError:
    """The error that says what there is, and which of it may be meant."""
    expected = f"expected a YAML file or a preset ({', '.join(presets())}), or a task"
    if source.lower().endswith(FILES):
        hint = f"name its task, and the file in --set data.dataset={source}; "
    else:
        plain = re.sub(r"-v\d+$", "", source)  # D4RL's names
        close = difflib.get_close_matches(plain, [*tasks(), *presets()], n=3, cutoff=0.5)
        near = [plain] if plain in tasks() else close
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return ConfigError(
        f"configuration {source!r} not found: {expected}; {hint}`ldcq tasks` lists the tasks"
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"configuration {str(path)!r} cannot be read ({error}); expected a YAML file in UTF-8"
        ) from error


def presets() -> list[str]:
    """The names of the presets that ship with the project."""
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in PRESETS.iterdir()
        if entry.name.endswith(".yaml")
    )


def tasks() -> list[str]:
    """The names of the tasks that ship with the project; none where `configs` is left out."""
    return sorted(path.stem for path in TASKS.glob("*.yaml"))


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    # PyYAML lets through what its constructors raise, for a date that is none among others.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{where}: not valid YAML: {error}") from error


class _Loader(yaml.SafeLoader):
    """Refuses a mapping with a key twice, of which PyYAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if isinstance(name, str) and name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"found the key {name!r} twice, expected it once", key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep)


def _merge(base: dict[str, Any], changes: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """The rule of `load`; a section of another `kind` is another section."""
    merged = dict(base) if at else _left_by_another_dataset(base, changes)
    for key, value in changes.items():
        path, old = f"{at}{key}", merged.get(key)
        if (
            isinstance(value, dict)
            and isinstance(old, dict)
            and path not in _REPLACED
            and _same_kind(old, value)
        ):
            merged[key] = _merge(old, value, f"{path}.")
        else:
            merged[key] = value
    return merged


def _left_by_another_dataset(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The base, with what the rule of `load` makes of it where changes name a dataset or a task."""
    task, other = base.get("task"), _is_other_dataset(base, changes)
    if task and other:
        dataset, generated = str(changes["data"]["dataset"]), task.get("generated") or {}
        if dataset == generated.get("dataset"):
            return _merge(base, generated.get("settings") or {})
        if dataset.lower().endswith(FILES):
            return _merge(base, task.get("of_file") or {})
    merged = dict(base)
    if not task and (other or changes.get("task")):
        for section, keys in OF_DATASET.items():
            said = base.get(section) or {}
            merged[section] = {key: value for key, value in said.items() if key not in keys}
    if other:
        merged["data"] = {**merged["data"], "generate": None}
    return merged


def _is_other_dataset(base: Mapping[str, Any], changes: Mapping[str, Any]) -> bool:
    """Whether changes name another dataset, and not one that is generated by the same generator."""
    old, new = base.get("data"), changes.get("data")
    if not isinstance(old, dict) or not isinstance(new, dict):
        return False
    if "dataset" not in new or new["dataset"] == old.get("dataset"):
        return False
    before, anew = old.get("generate"), new.get("generate")
    if not isinstance(before, dict) or not isinstance(anew, dict):
        return True
    kind = before.get("kind", "pointmaze")
    return bool(anew.get("kind", kind) != kind)


def _same_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return bool(new.get("kind", old.get("kind")) == old.get("kind"))


def _changed(tree: dict[str, Any], key: str, value: object, at: str = "") -> dict[str, Any]:
    """`tree` with one dotted key changed."""
    if not at and key == "data.dataset":
        return _merge(tree, {"data": {"dataset": value}})
    first, _, rest = key.partition(".")
    if not rest:
        return _merge(tree, {first: value}, at)
    child = tree.get(first, {})
    if child is None:
        raise ConfigError(
            f"{at}{key}: {at}{first} is null; set the section, as {at}{first}={{...}}"
        )
    if not isinstance(child, dict):
        raise ConfigError(f"{at}{key}: {first!r} is not a section, it holds {child!r}")
    return {**tree, first: _changed(child, rest, value, f"{at}{first}.")}


def _overridden(tree: dict[str, Any], changes: Iterable[tuple[str, object]]) -> dict[str, Any]:
    """`tree` with dotted keys changed; the dataset first, whatever the order."""
    for key, value in sorted(changes, key=lambda change: change[0] != "data.dataset"):
        tree = _changed(tree, key, value)
    return tree


def _validate(tree: dict[str, Any]) -> Config:
    config = _parse(tree)
    resolved = {name: resolve_variant(config, name) for name in (config.variant, *config.variants)}
    for name, method in config.evaluation.methods.items():
        if method.variant in resolved:
            _check_policy(name, method, resolved[method.variant].prior)
    return config


def _check_policy(name: str, method: MethodConfig, prior: PriorConfig) -> None:
    """That a method's policy is one for the prior of its variant."""
    policy, variant, goals = method.policy, method.variant, prior.goal_conditioned
    expected = ""
    if policy in ("ldcq", "bcq_h") and goals:
        expected = (
            f"'ldgc' or 'ldcp': {variant!r} has prior.goal_conditioned, and critics know no goals"
        )
    elif policy == "bcq_h" and prior.implementation != "gaussian":
        expected = (
            f"'ldcq', or prior.implementation 'gaussian' in {variant!r}, which has "
            f"{prior.implementation!r}"
        )
    elif policy == "ldgc" and not goals:
        expected = f"'prior', or prior.goal_conditioned true in {variant!r}"
    elif policy == "prior" and goals:
        expected = f"'ldgc': {variant!r} has prior.goal_conditioned"
    if expected:
        raise ConfigError(f"evaluation.methods.{name}.policy is {policy!r}, expected {expected}")


def _parse(tree: dict[str, Any]) -> Config:
    return validated(Config, tree)


def validated(section: type[AnySection], tree: object, at: str = "") -> AnySection:
    """A section of these keys and values.

    Args:
        section: Its type.
        tree: The keys and values.
        at: Dotted key of the section in the configuration, for messages.

    Raises:
        ConfigError: They do not make one; the message has a line for every mistake.
    """
    try:
        return section.model_validate(tree)
    except ValidationError as error:
        mistakes = (_explain(section, at, dict(item)) for item in error.errors())
        raise ConfigError("\n".join(mistakes)) from error


def _explain(root: type[BaseModel], at: str, error: dict[str, Any]) -> str:
    """One pydantic error as `key: given, expected`."""
    location, model = _section(root, tuple(str(part) for part in error["loc"]))
    key = ".".join([at, *location] if at else location)
    if error["type"] == "extra_forbidden":
        if model is PriorConfig and isinstance(error["input"], dict):
            own = f"prior.options.{location[-1]}"
            return f"{key}: unknown key; write {own}: an implementation's own options are there"
        known = sorted(model.model_fields)
        close = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"{key}: unknown key; {hint}allowed here: {', '.join(known)}"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{key}: {message}" if key else message
    if error["type"] in ("model_type", "dict_type"):
        message = "expected a section of keys and values"
    if error["type"] == "tuple_type":
        message = "expected a list, such as [1, 2]"
    return f"{key}: got {error['input']!r}; {message}"


def _section(
    root: type[BaseModel], path: tuple[str, ...]
) -> tuple[tuple[str, ...], type[BaseModel]]:
    """The key that a user wrote, and the section that holds it (or that it is)."""
    model = root
    choices: list[type[BaseModel]] = []
    spelled = []
    for part in path:
        kinds = {_kind(choice): choice for choice in choices}
        if len(choices) > 1 and part in kinds:
            model, choices = kinds[part], []  # pydantic names the kind; a user does not
            continue
        spelled.append(part)
        field = model.model_fields.get(part)
        # Not a field: the name of a method or a variant, whose fields are the mapping's values'.
        if field is not None:
            choices = _sections(field.annotation)
            model = choices[0] if choices else model
    return tuple(spelled), model


def _sections(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]


def _kind(section: type[BaseModel]) -> str:
    kind = section.model_fields.get("kind")
    return str(kind.default) if kind is not None else ""
