"""The settings as values, whoever made them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TypeVar

from msgspec import Struct, structs

from ..errors import InvalidSetting
from ..models import Recovery
from .keys import nearest_origin, unknown_setting
from .options import validate_options
from .redaction import shown

_Model = TypeVar("_Model")


class PluginSettings(Struct, frozen=True, kw_only=True):
    """``[plugins]``. ``enabled``: the only words that are used, None for all. ``disabled``: words that are not used,
    whatever ``enabled`` says. ``strict``: a plugin that fails is an error even where nobody asked for it."""

    enabled: tuple[str, ...] | None = None
    disabled: tuple[str, ...] = ()
    strict: bool = False


class RuntimeSettings(Struct, frozen=True, kw_only=True):
    """``[runtime]``: how a runtime holds runs, and what it does after a crash.

    ``lease_s``: how long a run is held without a renewal. ``start_grace_s``: how long a started run is left to the
    caller of `start` before workers may take it; 0 hands it to them at once. ``lease_wait_s``: how long `tick` waits
    for a run that somebody else holds. ``default_recovery``: what is done after a crash with an effect for which nobody
    declared it. ``max_claims``: claims without a record in between after which a run parks as poison.

    Raises `InvalidSetting` where a value is out of range.
    """

    lease_s: float = 30.0
    start_grace_s: float = 10.0
    lease_wait_s: float = 5.0
    default_recovery: Recovery = Recovery.ASK
    max_claims: int = 5

    def __post_init__(self) -> None:
        _require("lease_s", self.lease_s, 0 < self.lease_s < math.inf, "more than 0 seconds")
        _require("start_grace_s", self.start_grace_s, 0 <= self.start_grace_s < math.inf, "0 seconds or more")
        _require("lease_wait_s", self.lease_wait_s, 0 <= self.lease_wait_s < math.inf, "0 seconds or more")
        _require("max_claims", self.max_claims, self.max_claims >= 1, "1 or more")
        askable = self.default_recovery != Recovery.RECONCILE
        wanted = "another class, for a handler that declares nothing has no reconcile hook"
        _require("default_recovery", str(self.default_recovery), askable, wanted)


def _require(name: str, value: object, holds: bool, wanted: str) -> None:
    if not holds:
        raise InvalidSetting(f"runtime.{name} is {value!r}; it must be {wanted}", key=f"runtime.{name}")


class SettingEntry(Struct, frozen=True):
    """A setting as it is shown: its dotted key, its value as text with secrets hidden, and where it comes from."""

    key: str
    value: str
    origin: str


class Settings(Struct, frozen=True, kw_only=True):
    """What is in force. Made by `load_settings`; plain construction takes the values as they are.

    ``store``: the store URL, None where nothing is configured. ``plugin``: options by plugin word, as written (those of
    environment variables are texts); `options` validates them. ``origins``: dotted key → where its value comes from;
    what is not in it is a default.
    """

    store: str | None = None
    plugins: PluginSettings = PluginSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    plugin: Mapping[str, Mapping[str, object]] = {}
    origins: Mapping[str, str] = {}

    def origin(self, key: str) -> str:
        """Where the value of ``key`` (``store``, ``runtime.lease_s``, ``plugin.s3.region``) comes from: ``default``,
        ``environment variable NAME``, ``FILE: KEY`` or ``argument KEY``. Raises `UnknownSetting`."""
        if key not in KNOWN_KEYS and not key.startswith("plugin."):
            raise unknown_setting(key, sorted(KNOWN_KEYS))
        return nearest_origin(key, self.origins)

    def options(self, word: str, model: type[_Model]) -> _Model:
        """The options of plugin ``word`` as an instance of ``model``: see `validate_options`."""
        return validate_options(word, self.plugin.get(word, {}), model, origin=self.origin)

    def entries(self) -> list[SettingEntry]:
        """Every setting of the core, set or not, then every option of a plugin that is set; secrets are hidden."""
        pairs: list[tuple[str, object]] = [("store", self.store)]
        pairs += [(f"plugins.{name}", value) for name, value in structs.asdict(self.plugins).items()]
        pairs += [(f"runtime.{name}", value) for name, value in structs.asdict(self.runtime).items()]
        for word, options in self.plugin.items():
            pairs += [(f"plugin.{word}.{option}", value) for option, value in options.items()]
        return [SettingEntry(key, shown(key, value), self.origin(key)) for key, value in pairs]

    def __repr__(self) -> str:
        defaults = {entry.key: entry.value for entry in Settings().entries()}
        told = [f"{entry.key}={entry.value}" for entry in self.entries() if defaults.get(entry.key) != entry.value]
        return f"Settings({', '.join(told)})"

    # Pretty printers ask for this before `__repr__`; the one that Struct brings shows every field as it is.
    def __rich_repr__(self) -> Iterator[tuple[str, str]]:  # type: ignore[override]  # rich takes any iterable
        return ((entry.key, entry.value) for entry in self.entries())


SECTIONS: Mapping[str, type[Struct]] = {"plugins": PluginSettings, "runtime": RuntimeSettings}
KNOWN_KEYS = frozenset(
    {"store", *(f"{section}.{name}" for section, fields in SECTIONS.items() for name in fields.__struct_fields__)}
)
