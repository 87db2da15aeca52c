"""Import → check → register: what a plugin offers, all of it or nothing.

Each plugin gets a pluggy manager of its own: what fails in one leaves no trace in another, and whatever a hook returns
is known to come from this plugin.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

import pluggy
from msgspec import Struct, structs

from ..config import hide_secrets
from ..config.keys import nearest, unknown_setting
from ..effects import EffectSpec
from ..errors import PluginError
from ..hookspecs import (
    PLUGIN_API,
    PROJECT,
    CodecSpec,
    CommandSpec,
    Hooks,
    LLMClientSpec,
    Observer,
    ToolSourceSpec,
)
from ..store.contract import StoreSpec, StoreUrl
from ..urls import hide_url_secrets
from ..workflow import WorkflowSpec
from .discovery import Candidate, PluginFailure, Stage

if TYPE_CHECKING:
    from ..config import Settings

_PREFIX = f"{PROJECT}_"
_API_ATTRIBUTE = f"{_PREFIX}plugin_api"
_EFFECT_HANDLERS = f"{_PREFIX}effect_handlers"
_HOOKS = tuple(name for name in vars(Hooks) if name.startswith(_PREFIX))


class Offer(Struct, frozen=True, kw_only=True):
    """All that one plugin offers. ``hooks``: those it implements. ``options_model``: that of ``[plugin.<word>]``, as
    the plugin named it."""

    plugin: Candidate
    hooks: tuple[str, ...]
    stores: tuple[StoreSpec, ...] = ()
    effect_handlers: Mapping[str, EffectSpec] = {}
    llm_clients: tuple[LLMClientSpec, ...] = ()
    tool_sources: tuple[ToolSourceSpec, ...] = ()
    codecs: tuple[CodecSpec, ...] = ()
    observers: tuple[Observer, ...] = ()
    workflows: tuple[WorkflowSpec, ...] = ()
    commands: tuple[CommandSpec, ...] = ()
    options_model: type | str | None = None


def load(plugin: Candidate, settings: Settings) -> Offer | PluginFailure:
    """Take a plugin through all stages; what it raises at one of them is its failure."""
    stage: Stage = "import"
    try:
        loaded = plugin.entry_point.load()
        stage = "check"
        manager = _checked(loaded, plugin.word)
        stage = "register"
        offer = _registered(manager, plugin, settings)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a plugin may raise anything; kept as its failure
        return failed(plugin, stage, error, settings)
    return offer


def failed(
    plugin: Candidate, stage: Stage, error: BaseException, settings: Settings, url: StoreUrl | None = None
) -> PluginFailure:
    """The failure. What others raise may repeat what they were given: then their words are kept, without the secrets
    of the plugin's options and of ``url``, and the error itself is not."""
    failure = plugin.failure(stage, error)
    reason = hide_secrets(failure.reason, settings.plugin.get(plugin.word, {}))
    if url is not None:
        reason = hide_url_secrets(reason, url)
    return failure if reason == failure.reason else plugin.failure(stage, PluginError(reason))


def _checked(loaded: object, word: str) -> pluggy.PluginManager:
    _check_api(getattr(loaded, _API_ATTRIBUTE, None))
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    for name in dir(loaded):
        if name.startswith(_PREFIX) and name != _API_ATTRIBUTE:
            _check_name(manager, loaded, name)
    manager.register(loaded, name=word)
    manager.check_pending()
    return manager


def _check_api(stated: object) -> None:
    if stated is None:
        raise PluginError(
            "it does not say which plugin API it was written for", hint=f"put {_API_ATTRIBUTE} = {PLUGIN_API} into it"
        )
    if not isinstance(stated, int) or isinstance(stated, bool) or stated < 1:
        raise PluginError(f"its {_API_ATTRIBUTE} is {stated!r}, which cannot be read", hint="write a whole number")
    if stated > PLUGIN_API:
        raise PluginError(
            f"it was written for plugin API {stated}, and this abstractruntime has {PLUGIN_API}",
            hint="pip install --upgrade abstractruntime, or install an older version of the plugin",
        )


def _check_name(manager: pluggy.PluginManager, loaded: object, name: str) -> None:
    """A name of ours is a hook, spelled right and marked: pluggy would pass over all others without a word."""
    value = inspect.getattr_static(loaded, name)
    if isinstance(value, ModuleType):  # an imported package of that name
        return
    if name not in _HOOKS:
        meant = nearest(name, [*_HOOKS, _API_ATTRIBUTE])
        raise PluginError(
            f"there is no hook named {name!r}",
            hint=f"did you mean {meant}?" if meant else f"the hooks are {', '.join(_HOOKS)}",
        )
    if manager.parse_hookimpl_opts(loaded, name) is None:
        raise PluginError(
            f"its {name} is not marked as a hook implementation",
            hint="put @hookimpl above it: from abstractruntime.hookspecs import hookimpl",
        )
    if inspect.iscoroutinefunction(value):
        raise PluginError(f"its {name} is a coroutine function, and hooks are synchronous", hint="write def")


def _registered(manager: pluggy.PluginManager, plugin: Candidate, settings: Settings) -> Offer:
    hooks = tuple(name for name in _HOOKS if getattr(manager.hook, name).get_hookimpls())
    values: dict[str, object] = {}
    for hook in hooks:
        arguments = {"settings": settings} if hook == _EFFECT_HANDLERS else {}
        answers = getattr(manager.hook, hook)(**arguments)
        # pluggy leaves out what returned None
        values[hook.removeprefix(_PREFIX)] = _checked_answer(hook, answers[0] if answers else None)
    offer = Offer(plugin=plugin, hooks=hooks, **values)  # type: ignore[arg-type]  # each was checked, just above
    for store in offer.stores:
        if store.scheme != plugin.word:
            raise PluginError(
                f"it offers a store named {store.scheme!r}", hint=f"a store has its plugin's word: {plugin.word!r}"
            )
    offer = structs.replace(offer, options_model=_only_model(offer))
    _check_options(offer, settings)
    return offer


class _Kind(Struct, frozen=True):
    """What stands in a hook's list: its class (None: a function), the attribute that names it, what is called."""

    item: type | None
    name: str = ""
    calls: tuple[str, ...] = ()


_KINDS = {
    f"{_PREFIX}stores": _Kind(StoreSpec, "scheme", ("open",)),
    f"{_PREFIX}llm_clients": _Kind(LLMClientSpec, "name", ("open",)),
    f"{_PREFIX}tool_sources": _Kind(ToolSourceSpec, "name", ("open",)),
    f"{_PREFIX}codecs": _Kind(CodecSpec, "name", ("encode", "decode")),
    f"{_PREFIX}observers": _Kind(None),
    f"{_PREFIX}workflows": _Kind(WorkflowSpec),
    f"{_PREFIX}commands": _Kind(CommandSpec, "name", ("add",)),
}


def _checked_answer(hook: str, answer: object) -> object:
    if hook == _EFFECT_HANDLERS:
        return _checked_handlers(hook, answer)
    kind = _KINDS[hook]
    expected = kind.item.__name__ if kind.item else "functions"
    if not isinstance(answer, Sequence) or isinstance(answer, str | bytes):
        raise _wrong(hook, _type(answer), f"a list of {expected}")
    names: set[str] = set()
    for place, item in enumerate(answer):
        if not (callable(item) if kind.item is None else isinstance(item, kind.item)):
            raise _wrong(hook, f"a list with {_type(item)} at place {place}", f"a list of {expected}")
        for attribute in kind.calls:
            if not callable(getattr(item, attribute)):
                raise _wrong(hook, f"a {expected} whose {attribute} is {_type(getattr(item, attribute))}", "a function")
        if kind.name:
            _check_item_name(hook, getattr(item, kind.name), names)
    return tuple(answer)


def _checked_handlers(hook: str, answer: object) -> Mapping[str, EffectSpec]:
    expected = "a mapping of effect types to EffectSpec"
    if not isinstance(answer, Mapping):
        raise _wrong(hook, _type(answer), expected)
    names: set[str] = set()
    for effect_type, spec in answer.items():
        _check_item_name(hook, effect_type, names)
        if not isinstance(spec, EffectSpec):
            raise _wrong(hook, f"{_type(spec)} for {effect_type!r}", expected)
    return {str(effect_type): spec for effect_type, spec in answer.items()}


def _check_item_name(hook: str, name: object, names: set[str]) -> None:
    if not isinstance(name, str) or not name:
        raise _wrong(hook, f"{name!r} as a name", "text that is not empty")
    if name in names:
        raise PluginError(f"its hook {hook} returned {name!r} twice", hint="keep one of them")
    names.add(name)


def _wrong(hook: str, got: str, expected: str) -> PluginError:
    return PluginError(
        f"its hook {hook} returned {got}, expected {expected}",
        hint="docs/reference/plugins.md says what each hook returns",
        hook=hook,
        expected=expected,
        got=got,
    )


def _type(value: object) -> str:
    return "None" if value is None else f"{type(value).__name__}"


def _only_model(offer: Offer) -> type | str | None:
    specs: list[StoreSpec | LLMClientSpec | ToolSourceSpec] = [
        *offer.stores, *offer.llm_clients, *offer.tool_sources
    ]  # fmt: skip
    models = {spec.options_model for spec in specs if spec.options_model is not None}
    if len(models) > 1:
        raise PluginError(
            f"it names {len(models)} models for its options, and they all stand in [plugin.{offer.plugin.word}]",
            hint="give everything it offers the same options_model",
        )
    return next(iter(models), None)


def _check_options(offer: Offer, settings: Settings) -> None:
    """What somebody set is right, or said to be wrong, from the first moment on; what is missing is asked for later."""
    word = offer.plugin.word
    if not settings.plugin.get(word):
        return
    if offer.options_model is not None:
        settings.options(word, options_class(offer.options_model))
    elif _EFFECT_HANDLERS not in offer.hooks:  # that hook reads options by itself
        key = f"plugin.{word}.{next(iter(settings.plugin[word]))}"
        raise unknown_setting(key, (), origin=settings.origin(key))


def options_class(model: type | str) -> type:
    """The class of an options model; a text is ``"module:Name"``. Raises `PluginError` where there is none."""
    if isinstance(model, type):
        return model
    module, _, name = model.partition(":")
    found = getattr(import_module(module), name, None)
    if not isinstance(found, type):
        raise PluginError(f"its options_model {model!r} names no class", hint='write "module:Name"')
    return found
