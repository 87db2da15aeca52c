"""A plugin's options, validated by the plugin's own model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, TypeVar, cast

import msgspec
from msgspec import Struct

from ..errors import InvalidSetting, PluginError
from .keys import FILE_NAME, unknown_setting, variable_of
from .redaction import hide_secrets, shown

if TYPE_CHECKING:
    from pydantic import ValidationError

_Model = TypeVar("_Model")


class Refusal(Struct, frozen=True):
    """Why a model takes no values. ``path`` is empty where it is about the whole; ``value`` is what stands there."""

    kind: Literal["unknown", "missing", "invalid"]
    path: tuple[str, ...]
    reason: str
    value: object = None

    @classmethod
    def of(cls, error: ValidationError) -> Refusal:
        """The first of pydantic's complaints."""
        first = error.errors(include_url=False, include_context=False)[0]
        kind: Literal["unknown", "missing", "invalid"] = "invalid"
        if first["type"] == "extra_forbidden":
            kind = "unknown"
        elif first["type"] == "missing":
            kind = "missing"
        reason = first["msg"][:1].lower() + first["msg"][1:]
        return cls(kind, tuple(str(part) for part in first["loc"]), reason, first["input"])


def validate_options(
    word: str, raw: Mapping[str, object], model: type[_Model], *, origin: Callable[[str], str] = lambda _: "given"
) -> _Model:
    """The options of plugin ``word`` as an instance of its own ``model``, the class of a pydantic model.

    ``raw``: options as written. A text that the model refuses is read as JSON too, for an environment variable has no
    other way to hold a list. ``origin(key)`` says where ``plugin.<word>.<option>`` comes from.

    Raises `UnknownSetting` for an option that the model does not have, `InvalidSetting` for a value of the wrong kind
    and for a missing one, `PluginError` where ``model`` is no model.
    """
    known = _option_names(word, model)
    for option in raw:
        if known is not None and option not in known:
            key = f"plugin.{word}.{option}"
            raise unknown_setting(key, [f"plugin.{word}.{name}" for name in known], origin=origin(key))
    values = dict(raw)
    instance, refusal = _attempt(model, values)
    while refusal is not None:
        option = refusal.path[0] if refusal.path else ""
        decoded = _from_json(values.get(option))
        if decoded is None or values[option] is not raw[option]:  # each text gets one second chance
            raise _refused(word, refusal, raw, origin)
        values[option] = decoded
        instance, refusal = _attempt(model, values)
    return cast(_Model, instance)


def _option_names(word: str, model: object) -> list[str] | None:
    """The options that a model takes, None for any."""
    fields = getattr(model, "model_fields", None)
    if not isinstance(fields, dict):
        raise PluginError(
            f"the options model of plugin {word!r} is {model!r}",
            hint="give the class of a pydantic model",
        )
    rules: Mapping[str, object] = getattr(model, "model_config", {})
    if rules.get("extra") == "allow":
        return None
    by_name = rules.get("populate_by_name") or rules.get("validate_by_name")
    names: list[str] = []
    for name, field in fields.items():
        alias = field.validation_alias
        choices = getattr(alias, "choices", () if alias is None else (alias,))
        names += [choice if isinstance(choice, str) else str(choice.path[0]) for choice in choices]
        if alias is None or by_name:
            names.append(name)
    return names


def _attempt(model: type, values: Mapping[str, object]) -> tuple[object, Refusal | None]:
    from pydantic import ValidationError

    validate: Callable[[object], object] = model.model_validate  # type: ignore[attr-defined]  # it has model_fields
    try:
        return validate(dict(values)), None
    except ValidationError as error:
        return None, Refusal.of(error)


def _from_json(value: object) -> object:
    """The value that a text holds as JSON, None where there is none."""
    if not isinstance(value, str):
        return None
    try:
        return cast(object, msgspec.json.decode(value))
    except msgspec.MsgspecError:
        return None


def _refused(word: str, refusal: Refusal, raw: Mapping[str, object], origin: Callable[[str], str]) -> InvalidSetting:
    key = ".".join(("plugin", word, *refusal.path))
    if refusal.kind == "missing":
        table, _, option = key.rpartition(".")
        return InvalidSetting(
            f"plugin {word!r} needs the setting {key}, and it is not set",
            hint=f"set {option} in [{table}] of {FILE_NAME}, or the variable {variable_of(key)}",
            key=key,
        )
    reason = hide_secrets(refusal.reason, raw)
    if not refusal.path:
        return InvalidSetting(f"the settings of plugin {word!r} do not fit together: {reason}", key=key)
    value = raw.get(refusal.path[0]) if len(refusal.path) == 1 else refusal.value
    return InvalidSetting(
        f"{key} is {shown(key, value)} ({origin(key)}): {reason}", key=key, origin=origin(key)
    )  # fmt: skip
