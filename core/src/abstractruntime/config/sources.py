"""Where settings come from: arguments, environment variables, a file. Read, checked and merged."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct, structs

from ..errors import ConfigError, InvalidSetting, UnknownSetting
from .keys import DEFAULT, FILE_NAME, OPTIONS_PREFIX, PREFIX, key_of, nearest_origin, unknown_setting, variable_of
from .options import Refusal
from .redaction import shown
from .settings import KNOWN_KEYS, SECTIONS, PluginSettings, RuntimeSettings, Settings

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_settings import BaseSettings

PROJECT_FILE_NAME = "pyproject.toml"

_VARIABLE = "environment variable"
_LIST_KEYS = frozenset({"plugins.enabled", "plugins.disabled"})

_log = logging.getLogger(__name__)


def load_settings(
    *, cwd: str | Path | None = None, environ: Mapping[str, str] | None = None, **arguments: object
) -> Settings:
    """The settings in force.

    ``cwd``: the folder whose file is read, default the working folder; ``environ``: default the process's environment;
    a variable that is set to nothing counts as not set. ``arguments``: ``store``, ``plugins``, ``runtime``, ``plugin``,
    the last three as mappings like the tables of the file; None counts as not given.

    Raises `UnknownSetting` and `InvalidSetting` naming key and origin, `ConfigError` for a file that cannot be read.
    """
    variables = _variables(os.environ if environ is None else environ)
    given = {
        key: structs.asdict(value) if isinstance(value, Struct) else value
        for key, value in arguments.items()
        if value is not None
    }
    sources = _Sources(
        arguments=_Layer(given, lambda key: f"argument {key}"),
        options=_options_layer(variables),
        variables={name: text for name, text in variables.items() if not name.startswith(OPTIONS_PREFIX)},
        file=_file_layer(Path(cwd) if cwd is not None else Path()),
    )
    return _validated(sources) if variables or given or sources.file.values else Settings()


class _Layer(Struct, frozen=True):
    """The settings of one source as nested mappings, and what a dotted key is called there."""

    values: Mapping[str, object]
    origin: Callable[[str], str]


class _Sources(Struct, frozen=True, kw_only=True):
    """All sources, the strongest first. ``variables`` are those of the core's own settings, still as texts."""

    arguments: _Layer
    options: _Layer
    variables: Mapping[str, str]
    file: _Layer

    def origins(self) -> dict[str, str]:
        """Where the value in force comes from, by dotted key: the stronger source overwrites what the weaker says."""
        found = {key: self.file.origin(key) for key in _leaves(self.file.values)}
        found |= {key_of(name): f"{_VARIABLE} {name}" for name in self.variables}
        for layer in (self.options, self.arguments):
            found |= {key: layer.origin(key) for key in _leaves(layer.values)}
        return found


def _leaves(values: Mapping[str, object], prefix: str = "", depth: int = 3) -> Iterator[str]:
    """The dotted keys of settings; a plugin's option (``plugin.word.option``) is one, whatever its value is made of."""
    for name, value in values.items():
        if isinstance(value, Mapping) and depth > 1:
            yield from _leaves(value, f"{prefix}{name}.", depth - 1)
        else:
            yield f"{prefix}{name}"


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that are ours. Names are checked here, since pydantic-settings passes over a misspelled one."""
    found = {name: text for name, text in environ.items() if name.startswith(PREFIX) and text}
    known = sorted(variable_of(key) for key in KNOWN_KEYS)
    for name in found:
        if name.startswith(OPTIONS_PREFIX):
            parts = name.removeprefix(OPTIONS_PREFIX).split("__")
            if len(parts) == 1 or not all(parts) or not name.isupper():
                raise UnknownSetting(
                    f"unknown {_VARIABLE} {name!r}",
                    hint=f"a plugin's option is {OPTIONS_PREFIX}<WORD>__<OPTION>, in capitals",
                    name=name,
                )
        elif name not in known:
            raise unknown_setting(name, known, what=_VARIABLE)
    return found


def _options_layer(variables: Mapping[str, str]) -> _Layer:
    """The variables of plugin options. They stay texts: only a plugin's model knows whether 007 is a number."""
    words: dict[str, object] = {}
    for name in sorted(variables):
        if not name.startswith(OPTIONS_PREFIX):
            continue
        *path, last = name.removeprefix(OPTIONS_PREFIX).lower().split("__")
        table = words
        for part in path:
            inner = table.setdefault(part, {})
            if not isinstance(inner, dict):
                raise InvalidSetting(
                    f"{_VARIABLE} {name} sets a part of {part!r}, which another variable sets as a whole",
                    hint="unset one of them",
                    key=key_of(name),
                )
            table = inner
        table[last] = variables[name]
    return _Layer({"plugin": words} if words else {}, lambda key: f"{_VARIABLE} {variable_of(key)}")


def _file_layer(folder: Path) -> _Layer:
    own, project = folder / FILE_NAME, folder / PROJECT_FILE_NAME
    table, shared = _read_toml(own), _project_table(project)
    if table is None and shared is not None:
        return _Layer(shared, lambda key: f"{project}: tool.abstractruntime.{key}")
    if shared is not None:
        _log.warning("[tool.abstractruntime] in %s is not read, because there is %s", project, own)
    return _Layer(table or {}, lambda key: f"{own}: {key}")


def _project_table(path: Path) -> dict[str, object] | None:
    if b"abstractruntime" not in (_read_bytes(path) or b""):
        return None  # most projects are done here: importing a TOML parser takes 12 ms
    tool = (_read_toml(path) or {}).get("tool")
    table = tool.get("abstractruntime") if isinstance(tool, dict) else None
    if table is None or isinstance(table, dict):
        return table
    raise ConfigError(f"{path}: tool.abstractruntime must be a table", hint="write [tool.abstractruntime]")


def _read_bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", hint="give read permission, or remove it", file=str(path)
        ) from error


def _read_toml(path: Path) -> dict[str, object] | None:
    content = _read_bytes(path)
    if content is None:
        return None
    import tomllib

    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line, reason = content.count(b"\n", 0, error.start) + 1, "not UTF-8"
    except tomllib.TOMLDecodeError as error:
        named = re.search(r"line (\d+)", str(error))
        line, reason = int(named[1]) if named else content.count(b"\n") + 1, str(error)
    raise ConfigError(
        f"{path}, line {line}: no valid TOML: {reason}",
        hint='write [table], and key = value with texts in quotes, as in store = "sqlite:///runs.db"',
        file=str(path),
        line=line,
    )


def _validated(sources: _Sources) -> Settings:
    from pydantic import ValidationError

    origins = sources.origins()
    model: Any = None
    refusal = None
    try:
        model = _settings_model(sources)()
    except ValidationError as error:
        refusal = Refusal.of(error)
    if refusal is not None:  # raised out here, where no other error, secrets included, hangs on it
        raise _refused(refusal, origins)
    try:
        runtime = RuntimeSettings(**dict(model.runtime))
    except InvalidSetting as error:
        key = str(error.values["key"])
        raise InvalidSetting(f"{error.message} ({origins.get(key, DEFAULT)})", key=key) from None
    return Settings(
        store=model.store,
        plugins=PluginSettings(**dict(model.plugins)),
        runtime=runtime,
        plugin=model.plugin,
        origins=origins,
    )


def _settings_model(sources: _Sources) -> type[BaseSettings]:
    """The settings as a pydantic-settings model over ``sources``; its sections have the fields of our own structs."""
    from pydantic import create_model
    from pydantic_settings import (
        BaseSettings,
        EnvSettingsSource,
        InitSettingsSource,
        PydanticBaseSettingsSource,
        SettingsConfigDict,
    )

    class Sourced(BaseSettings):
        model_config = SettingsConfigDict(extra="forbid", case_sensitive=True, env_nested_delimiter="__")

        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *_: PydanticBaseSettingsSource, **__: PydanticBaseSettingsSource
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            environment = EnvSettingsSource(settings_cls)
            environment.env_vars = {
                name.removeprefix(PREFIX).lower(): _as_json_list(name, text) if key_of(name) in _LIST_KEYS else text
                for name, text in sources.variables.items()
            }
            arguments, options, file = (
                InitSettingsSource(settings_cls, dict(layer.values))
                for layer in (sources.arguments, sources.options, sources.file)
            )
            return arguments, options, environment, file

    definitions: dict[str, Any] = {"store": (str | None, None), "plugin": (dict[str, dict[str, Any]], {})}
    for name, fields in SECTIONS.items():
        section = _section_model(fields)
        definitions[name] = (section, section())
    return create_model("Settings", __base__=Sourced, **definitions)


def _section_model(fields: type[Struct]) -> type[BaseModel]:
    from pydantic import ConfigDict, create_model

    definitions: dict[str, Any] = {field.name: (field.type, field.default) for field in structs.fields(fields)}
    return create_model(fields.__name__, __config__=ConfigDict(extra="forbid"), **definitions)


def _as_json_list(name: str, text: str) -> str:
    """``a, b`` or ``["a", "b"]`` as the latter, the form that pydantic-settings takes."""
    if not text.lstrip().startswith("["):
        return msgspec.json.encode([word.strip() for word in text.split(",") if word.strip()]).decode()
    try:
        msgspec.json.decode(text, type=list[str])
    except msgspec.MsgspecError as error:
        raise InvalidSetting(
            f"{key_of(name)} is {shown(key_of(name), text)} ({_VARIABLE} {name}): no JSON list of texts: {error}",
            hint="write words separated by commas, or a JSON list",
            key=key_of(name),
        ) from None
    return text


def _refused(refusal: Refusal, origins: Mapping[str, str]) -> ConfigError:
    key = ".".join(refusal.path)
    origin = nearest_origin(key, origins)
    if refusal.kind == "unknown":
        table = key.rpartition(".")[0]
        siblings = [known for known in KNOWN_KEYS if known.startswith(f"{table}.")] if table else [*KNOWN_KEYS]
        tables = [] if table else [*SECTIONS, "plugin"]
        return unknown_setting(key, sorted([*siblings, *tables]), origin=origin)
    return InvalidSetting(
        f"{key} is {shown(key, refusal.value)} ({origin}): {refusal.reason}", key=key, origin=origin
    )  # fmt: skip
