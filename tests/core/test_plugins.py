"""Plugins: found, loaded and asked one by one; a failure costs its own plugin and says what to do.

The distributions here are real ones: a folder on the path with a module and its `dist-info`.
"""

import importlib
import logging
import re
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from textwrap import dedent

import pytest

from abstractruntime.config import PluginSettings, Settings
from abstractruntime.effects import EffectSpec
from abstractruntime.errors import (
    AbstractRuntimeError,
    InvalidSetting,
    PluginBroken,
    PluginConflict,
    PluginMissing,
    StoreMissing,
    UnknownSetting,
)
from abstractruntime.hookspecs import PLUGIN_API, Hooks
from abstractruntime.models import Effect, RunState, RunStatus, StepPlan
from abstractruntime.opening import open_runtime
from abstractruntime.plugins import PluginFailure, PluginHost, PluginInfo, installation, open_store_by_url
from abstractruntime.store.contract import Store
from abstractruntime.workflow import RunContext, WorkflowSpec

SECRET = "s3cr+tPa55"

HEAD = """
from abstractruntime.hookspecs import *
from abstractruntime.store.contract import StoreSpec
from abstractruntime.effects import EffectSpec
from abstractruntime.store.memory import open_memory

abstractruntime_plugin_api = 1
"""

STORE = """
@hookimpl
def abstractruntime_stores():
    return [StoreSpec(scheme="{word}", open=open_memory, summary="for tests")]
"""

Plant = Callable[..., str]


@pytest.fixture
def plant(tmp_path, monkeypatch):
    """Install a distribution: `plant("paint", body)` puts module `planted_paint` under the word `paint` on the path."""
    before = set(sys.modules)
    monkeypatch.setattr(installation, "_told", set())

    def install(
        word: str,
        body: str = STORE,
        *,
        head: str = HEAD,
        distribution: str | None = None,
        version: str = "1.2.3",
        entry_points: str | None = None,
        metadata: str | None = None,
    ) -> str:
        name = distribution or f"planted-{word}"
        folder = tmp_path / name
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        module = re.sub(r"\W", "_", f"{name}_module")
        (folder / f"{module}.py").write_text(head + dedent(body).replace("{word}", word), encoding="utf-8")
        lines = entry_points or f"[abstractruntime]\n{word} = {module}\n"
        (info / "entry_points.txt").write_text(lines.replace("MODULE", module), encoding="utf-8")
        if metadata != "":
            text = metadata or f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            (info / "METADATA").write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(str(folder))
        importlib.invalidate_caches()
        return module

    yield install
    for name in set(sys.modules) - before:
        if "planted" in name:
            del sys.modules[name]


def host(
    *enabled: str, disabled: tuple[str, ...] = (), strict: bool = False, **options: dict[str, object]
) -> PluginHost:
    """A host that uses the planted plugins only: what else is installed here is no test's business."""
    return PluginHost(
        Settings(plugins=PluginSettings(enabled=enabled or None, disabled=disabled, strict=strict), plugin=options)
    )


def info(plugins: PluginHost, word: str, *, load_all: bool = True) -> PluginInfo:
    (found,) = (each for each in plugins.report(load_all=load_all) if each.name == word)
    return found


def refused(call: Callable[[], object], error: type[AbstractRuntimeError] = PluginBroken) -> AbstractRuntimeError:
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    return caught.value


# Finding a store


def test_the_cores_own_store_is_a_plugin_like_any_other():
    spec = PluginHost().store("memory")
    assert (spec.scheme, info(PluginHost(), "memory").distribution) == ("memory", "abstractruntime")


def test_a_store_is_opened_by_its_url(plant):
    plant("tape")
    with open_store_by_url("tape:reel", Settings(), host("tape")) as store:
        assert store.now() > 0


def test_only_the_plugin_that_is_asked_for_is_imported(plant):
    wanted, other = plant("tape"), plant("drum", "raise ImportError('must not be imported')")
    plugins = host("tape", "drum")
    plugins.store("tape")
    assert wanted in sys.modules
    assert other not in sys.modules
    assert info(plugins, "drum", load_all=False).state == "not loaded"
    assert plugins.failures == ()


def test_a_missing_store_is_an_error_that_lists_the_others_and_says_what_to_install(plant):
    plant("tape")
    plant("paint", "")
    error = refused(lambda: host("tape", "memory", "paint").store("s9"), PluginMissing)
    assert str(error) == "no store named 's9'; installed: memory, tape. Hint: pip install abstractruntime-s9"


def test_a_misspelled_store_is_an_error_with_the_nearest_one(plant):
    plant("tape")
    error = refused(lambda: host("tape").store("tapes"), PluginMissing)
    assert str(error) == (
        "no store named 'tapes'; installed: tape. Hint: did you mean 'tape'? If not: pip install abstractruntime-tapes"
    )


def test_where_a_store_is_missing_the_broken_plugins_are_named(plant):
    plant("drum", "raise OSError('no drum')")
    error = refused(lambda: host("drum").store("s9"), PluginMissing)
    assert error.message == "no store named 's9'; installed: none; broken: drum"


def test_a_plugin_without_a_store_is_no_store(plant):
    plant("paint", "")
    assert "no store named 'paint'" in refused(lambda: host("paint").store("paint"), PluginMissing).message


def test_an_entry_point_may_name_an_object(plant):
    body = """
    class Plugin:
        abstractruntime_plugin_api = 1

        @hookimpl
        def abstractruntime_stores(self):
            return [StoreSpec(scheme="tape", open=open_memory, summary="for tests")]

    plugin = Plugin()
    """
    plant("tape", body, entry_points="[abstractruntime]\ntape = MODULE:plugin\n")
    assert host("tape").store("tape").summary == "for tests"


def test_a_plugin_is_loaded_once_though_two_threads_ask_at_once(plant):
    body = """
    from threading import Event

    calls, entered, again, leave = [], Event(), Event(), Event()

    @hookimpl
    def abstractruntime_effect_handlers():
        calls.append(1)
        (again if entered.is_set() else entered).set()
        assert leave.wait(10)
        return {"paint": EffectSpec(handler=print)}
    """
    module = plant("paint", body)
    plugins = host("paint")
    plugins.report(load_all=False)
    importlib.import_module(module)
    paint = sys.modules[module]
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(plugins.effect_handlers())) for _ in range(2)]
    threads[0].start()
    assert paint.entered.wait(10)
    threads[1].start()
    assert not paint.again.wait(0.1)  # what must not happen is waited for
    paint.leave.set()
    for thread in threads:
        thread.join()
    assert paint.calls == [1]
    assert [answer.keys() for answer in answers] == 2 * [{"paint"}]


# Failures: at which stage, of which plugin, and what to do


FAILURES = {
    "missing dependency": (
        "import no_such_module_anywhere",
        "import",
        "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
        "pip install --force-reinstall planted-drum",
    ),
    "syntax error": ("def", "import", "SyntaxError: ", "pip install --force-reinstall planted-drum"),
    "ends the program": ("raise SystemExit(3)", "import", "SystemExit: 3", 'plugins.disabled = ["drum"]'),
    "future API": (
        f"abstractruntime_plugin_api = {PLUGIN_API + 1}",
        "check",
        f"it was written for plugin API {PLUGIN_API + 1}, and this abstractruntime has {PLUGIN_API}",
        "pip install --upgrade abstractruntime",
    ),
    "API as text": (
        "abstractruntime_plugin_api = '1'",
        "check",
        "its abstractruntime_plugin_api is '1'",
        "whole number",
    ),
    "API as truth": ("abstractruntime_plugin_api = True", "check", "plugin_api is True, which cannot be read", "whole"),
    "API zero": ("abstractruntime_plugin_api = 0", "check", "plugin_api is 0, which cannot be read", "whole number"),
    "no API": (
        "del abstractruntime_plugin_api",
        "check",
        "it does not say which plugin API it was written for",
        "put abstractruntime_plugin_api = 1 into it",
    ),
    "misspelled hook": (
        "@hookimpl\ndef abstractruntime_store(): return []",
        "check",
        "there is no hook named 'abstractruntime_store'",
        "did you mean abstractruntime_stores?",
    ),
    "misspelled hook without mark": (
        "def abstractruntime_effect_handler(settings): return {}",
        "check",
        "there is no hook named 'abstractruntime_effect_handler'",
        "did you mean abstractruntime_effect_handlers?",
    ),
    "a name like no hook": (
        "abstractruntime_xyz = 1",
        "check",
        "there is no hook named",
        "the hooks are abstractruntime_",
    ),
    "misspelled hook under another name": (
        "@hookimpl(specname='abstractruntime_storess')\ndef stores(): return []",
        "check",
        "unknown hook 'abstractruntime_storess'",
        "",
    ),
    "unmarked hook": (
        "def abstractruntime_stores(): return []",
        "check",
        "its abstractruntime_stores is not marked as a hook implementation",
        "put @hookimpl above it",
    ),
    "coroutine": (
        "@hookimpl\nasync def abstractruntime_stores(): return []",
        "check",
        "its abstractruntime_stores is a coroutine function, and hooks are synchronous",
        "write def",
    ),
    "unknown argument": (
        "@hookimpl\ndef abstractruntime_stores(options): return []",
        "check",
        "Argument(s) {'options'} are declared in the hookimpl but can not be found in the hookspec",
        "",
    ),
    "hook raises": (
        "@hookimpl\ndef abstractruntime_stores(): raise OSError('no drum\\nhere')",
        "register",
        "OSError: no drum here",
        "",
    ),
    "store of another word": (
        STORE.replace("{word}", "trommel"),
        "register",
        "it offers a store named 'trommel'",
        "a store has its plugin's word: 'drum'",
    ),
    "two models": (
        """
        @hookimpl
        def abstractruntime_llm_clients():
            return [LLMClientSpec(name=name, open=print, summary="", options_model="m:" + name) for name in ("a", "b")]
        """,
        "register",
        "it names 2 models for its options, and they all stand in [plugin.drum]",
        "the same options_model",
    ),
}


@pytest.mark.parametrize(("body", "stage", "reason", "advice"), FAILURES.values(), ids=FAILURES.keys())
def test_a_broken_plugin_that_is_needed_is_an_error_with_plugin_distribution_stage_and_advice(
    plant, body, stage, reason, advice
):
    plant("drum", body)
    plugins = host("drum")
    error = refused(lambda: plugins.store("drum"))
    assert error.message.startswith(f"plugin 'drum' (planted-drum 1.2.3) failed at {stage}: ")
    assert reason in error.message
    assert advice in error.hint
    (failure,) = plugins.failures
    assert isinstance(failure, PluginFailure)
    assert (failure.plugin, failure.distribution, failure.version) == ("drum", "planted-drum", "1.2.3")
    assert failure.stage == stage
    assert error.failure is failure
    assert error.__cause__ is failure.error
    assert info(plugins, "drum").state == "broken"
    assert reason in info(plugins, "drum").why


@pytest.mark.parametrize("body", [case[0] for case in FAILURES.values()], ids=FAILURES.keys())
def test_a_broken_plugin_that_nobody_needs_is_one_warning_and_the_others_go_on(plant, caplog, body):
    plant("drum", body)
    plant("paint", "@hookimpl\ndef abstractruntime_effect_handlers(): return {'paint': EffectSpec(handler=print)}")
    for plugins in (host("drum", "paint"), host("drum", "paint")):
        assert plugins.effect_handlers().keys() == {"paint"}
        assert plugins.workflows() == ()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message.startswith("plugin 'drum' (planted-drum 1.2.3) failed at ")
    assert record.message.endswith("; it is not used")


def test_in_strict_mode_any_failure_is_an_error(plant):
    plant("drum", "raise OSError('no drum')")
    plant("paint", "")
    assert "OSError: no drum" in refused(host("drum", "paint", strict=True).effect_handlers).message


LISTS = ["stores", "llm_clients", "tool_sources", "codecs", "observers", "workflows", "commands"]
ITEMS = {
    "stores": "StoreSpec",
    "llm_clients": "LLMClientSpec",
    "tool_sources": "ToolSourceSpec",
    "codecs": "CodecSpec",
    "observers": "functions",
    "workflows": "WorkflowSpec",
    "commands": "CommandSpec",
}
WRONG_ANSWERS = [(hook, value, got) for hook in LISTS for value, got in [
    ("None", "None"), ("{}", "dict"), ("'text'", "str"), ("iter([])", "list_iterator"),
    ("['x']", "a list with str at place 0"), ("[None]", "a list with None at place 0"),
]] + [
    ("effect_handlers", "None", "None"),
    ("effect_handlers", "[]", "list"),
    ("effect_handlers", "{'paint': print}", "builtin_function_or_method for 'paint'"),
    ("effect_handlers", "{3: EffectSpec(handler=print)}", "3 as a name"),
    ("effect_handlers", "{'': EffectSpec(handler=print)}", "'' as a name"),
    ("stores", "[StoreSpec(scheme='drum', open=None, summary='')]", "a StoreSpec whose open is None"),
    ("stores", "[StoreSpec(scheme=3, open=print, summary='')]", "3 as a name"),
    ("codecs", "[CodecSpec(name='z', encode=print, decode='x', summary='')]", "a CodecSpec whose decode is str"),
    ("commands", "[CommandSpec(name='', add=print, summary='')]", "'' as a name"),
]  # fmt: skip


@pytest.mark.parametrize(("hook", "value", "got"), WRONG_ANSWERS)
def test_a_hook_that_returns_something_else_breaks_its_plugin_with_hook_expected_and_got(plant, hook, value, got):
    plant("drum", f"@hookimpl\ndef abstractruntime_{hook}(): return {value}")
    error = refused(lambda: host("drum").store("drum"))
    assert f"its hook abstractruntime_{hook} returned {got}, expected " in error.message
    assert error.failure.stage == "register"
    if "as a name" not in got and "whose" not in got:
        expected = f"a list of {ITEMS[hook]}" if hook in ITEMS else "a mapping of effect types to EffectSpec"
        assert error.message.endswith(f"expected {expected}")


def test_a_name_twice_in_one_plugin_breaks_it(plant):
    plant(
        "drum",
        "codec = CodecSpec(name='z', encode=bytes, decode=bytes, summary='')\n"
        "@hookimpl\ndef abstractruntime_codecs(): return [codec, codec]",
    )
    assert "its hook abstractruntime_codecs returned 'z' twice" in refused(lambda: host("drum").store("drum")).message


def test_a_plugin_is_registered_as_a_whole_or_not_at_all(plant):
    plant(
        "drum",
        STORE + "@hookimpl\ndef abstractruntime_effect_handlers(): return {'beat': EffectSpec(handler=print)}\n"
        "@hookimpl\ndef abstractruntime_codecs(): return 3\n",
    )
    plugins = host("drum")
    refused(lambda: plugins.store("drum"))
    assert plugins.effect_handlers() == {}
    assert info(plugins, "drum").hooks == ()


def test_an_import_of_another_package_of_ours_is_no_misspelled_hook(plant):
    plant("tape", "import types\nabstractruntime_other = types.ModuleType('abstractruntime_other')\n" + STORE)
    assert host("tape").store("tape")


# Two claims


def test_two_distributions_with_one_word_are_both_refused_both_named_and_not_imported(plant):
    modules = [plant("tape", distribution=name) for name in ("planted-tape", "other-planted-tape")]
    plugins = host("tape")
    error = refused(lambda: plugins.store("tape"), PluginConflict)
    assert error.message == (
        "the plugin word 'tape' is claimed more than once, by other-planted-tape and planted-tape; none is used"
    )
    assert "uninstall all but one" in error.hint
    assert not set(modules) & sys.modules.keys()
    assert [(failure.distribution, failure.stage) for failure in plugins.failures] == [
        ("other-planted-tape", "find"),
        ("planted-tape", "find"),
    ]
    states = {(each.distribution, each.state) for each in plugins.report() if each.name == "tape"}
    assert states == {("planted-tape", "broken"), ("other-planted-tape", "broken")}


def test_a_disputed_word_that_nobody_needs_is_a_warning_for_each(plant, caplog):
    plant("tape", distribution="planted-tape")
    plant("tape", distribution="other-planted-tape")
    assert host("tape").effect_handlers() == {}
    assert len(caplog.records) == 2


def test_one_distribution_twice_on_the_path_is_one(plant, monkeypatch, tmp_path):
    plant("tape")
    monkeypatch.syspath_prepend(str(tmp_path / "planted-tape"))
    assert host("tape").store("tape")


def test_of_two_versions_of_a_distribution_the_first_on_the_path_counts(plant, tmp_path, monkeypatch):
    plant("tape", version="1.0")
    (tmp_path / "planted-tape").rename(tmp_path / "older")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "older")])
    plant("tape", version="2.0")
    assert info(host("tape"), "tape").version == "2.0"


CONFLICTS = {
    "effect type": ("effect_handlers", "{'same': EffectSpec(handler=print)}", PluginHost.effect_handlers),
    "LLM client": ("llm_clients", "[LLMClientSpec(name='same', open=print, summary='')]", PluginHost.llm_clients),
    "tool source": ("tool_sources", "[ToolSourceSpec(name='same', open=print, summary='')]", PluginHost.tool_sources),
    "codec": ("codecs", "[CodecSpec(name='same', encode=bytes, decode=bytes, summary='')]", PluginHost.codecs),
    "command": ("commands", "[CommandSpec(name='same', add=print, summary='')]", PluginHost.commands),
    "workflow": ("workflows", "[WorkflowSpec('same', 'a', {'a': print})]", PluginHost.workflows),
}


@pytest.mark.parametrize(("what", "hook", "value", "ask"), [(what, *rest) for what, rest in CONFLICTS.items()])
def test_two_plugins_that_offer_one_thing_are_an_error_naming_both_and_one_can_be_disabled(
    plant, what, hook, value, ask
):
    body = f"from abstractruntime.workflow import WorkflowSpec\n@hookimpl\ndef abstractruntime_{hook}(): return {value}"
    plant("drum", body)
    plant("paint", body)
    error = refused(lambda: ask(host("drum", "paint")), PluginConflict)
    assert error.message == (f"two plugins offer the {what} 'same': 'drum' (planted-drum) and 'paint' (planted-paint)")
    assert 'plugins.disabled = ["paint"]' in error.hint
    assert len(ask(host("drum", "paint", disabled=("paint",)))) == 1


def test_a_handler_that_is_given_goes_before_those_of_plugins_and_settles_their_conflict(plant):
    body = """
    @hookimpl
    def abstractruntime_effect_handlers():
        return dict.fromkeys(("same", "{word}"), EffectSpec(handler=print))
    """
    plant("drum", body)
    plant("paint", body)
    handlers = host("drum", "paint").effect_handlers(given={"same"})
    assert handlers.keys() == {"drum", "paint"}
    assert all(isinstance(spec, EffectSpec) for spec in handlers.values())


# Which plugins are used


def test_a_disabled_plugin_is_not_imported_and_cannot_fail(plant):
    module = plant("drum", "raise OSError('no drum')")
    plugins = host("drum", "memory", disabled=("drum",), strict=True)
    assert plugins.effect_handlers() == {}
    assert module not in sys.modules
    assert plugins.failures == ()


def test_a_disabled_store_says_which_list_keeps_it_out(plant):
    plant("tape")
    settings = Settings(
        plugins=PluginSettings(disabled=("tape",)),
        origins={"plugins.disabled": "abstractruntime.toml: plugins.disabled"},
    )
    error = refused(lambda: PluginHost(settings).store("tape"), PluginMissing)
    reason = "it stands in plugins.disabled (abstractruntime.toml: plugins.disabled)"
    assert error.message == f"the plugin 'tape' is installed and not used: {reason}"
    assert (info(PluginHost(settings), "tape").state, info(PluginHost(settings), "tape").why) == ("disabled", reason)
    error = refused(lambda: host("memory").store("tape"), PluginMissing)
    assert "it does not stand in plugins.enabled (default)" in error.message


def test_a_disputed_word_that_is_disabled_is_no_failure(plant):
    plant("tape", distribution="planted-tape")
    plant("tape", distribution="other-planted-tape")
    plugins = host("tape", disabled=("tape",), strict=True)
    assert plugins.effect_handlers() == {}
    assert plugins.failures == ()
    assert {each.state for each in plugins.report() if each.name == "tape"} == {"disabled"}


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (Settings(plugin={"tapes": {"speed": 3}}), "plugin.tapes"),
        (Settings(plugins=PluginSettings(enabled=("memory", "tapes"))), "plugins.enabled"),
        (Settings(plugins=PluginSettings(disabled=("tapes",))), "plugins.disabled"),
    ],
)
def test_a_word_in_the_settings_that_no_entry_point_has_is_a_warning(plant, caplog, settings, key):
    plant("tape")
    PluginHost(settings).store("memory")
    PluginHost(settings).store("memory")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message == f"{key} (default) names 'tapes', which is no installed plugin; did you mean 'tape'?"


def test_the_report_names_plugin_distribution_version_hooks_and_state(plant):
    plant("tape")
    plant("drum", "raise OSError('no drum')")
    plant("paint")
    plugins = host("tape", "drum", "paint", disabled=("paint",))
    assert info(plugins, "tape", load_all=False).state == "not loaded"
    assert info(plugins, "tape") == PluginInfo(
        name="tape", distribution="planted-tape", version="1.2.3", hooks=("abstractruntime_stores",), state="loaded"
    )
    assert info(plugins, "drum").why.startswith("failed at import: OSError: no drum. Hint: ")
    assert info(plugins, "paint").state == "disabled"
    names = [each.name for each in plugins.report()]
    assert names == sorted(names)


def test_looking_at_a_host_loads_nothing(plant):
    module = plant("tape")
    plugins = host("tape")
    assert repr(plugins) == "PluginHost(loaded: none)"
    assert module not in sys.modules
    plugins.store("tape")
    assert repr(plugins) == "PluginHost(loaded: tape)"


# Damaged metadata


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ("", "unknown unknown"),
        ("Metadata-Version: 2.1\nVersion: 1.0\n", "unknown 1.0"),
        ("Metadata-Version: 2.1\nName: Some_Drum\n", "some-drum unknown"),
        ("Metadata-Version: 2.1\n\nName: of the description\nVersion: too\n", "unknown unknown"),
    ],
)
def test_a_distribution_without_name_or_version_costs_its_own_plugin_only(plant, tmp_path, metadata, named):
    plant("drum", metadata=metadata)
    plant("tape")
    plugins = host("tape", "drum")
    assert plugins.store("tape")
    error = refused(lambda: plugins.store("drum"))
    assert f"plugin 'drum' ({named}) failed at find: its metadata in " in error.message
    assert str(tmp_path / "planted-drum") in error.message
    assert error.hint == "remove what is left there, and install it again"


@pytest.mark.parametrize("value", ["no such module!", "MODULE:missing", "MODULE extra"])
def test_an_entry_point_that_names_nothing_costs_its_own_plugin_only(plant, value):
    plant("drum", entry_points=f"[abstractruntime]\ndrum = {value}\n")
    plant("tape")
    plugins = host("tape", "drum")
    assert plugins.store("tape")
    assert "failed at import" in refused(lambda: plugins.store("drum")).message


def test_an_entry_point_file_of_another_group_is_not_looked_into(plant):
    plant("tape")
    plant("drum", entry_points="[other]\nthis is no entry point at all\n")
    assert host("tape").store("tape")


def test_entry_points_that_cannot_be_read_are_a_failure_of_their_distribution(plant):
    plant("tape")
    plant("drum", entry_points="[abstractruntime]\nthis is no entry point at all\n")
    plugins = PluginHost()
    assert plugins.store("tape")
    (failure,) = (failure for failure in plugins.failures if failure.distribution == "planted-drum")
    assert failure.stage == "find"
    assert "cannot be used" in failure.reason


# Options


OPTIONS = """
import sys, types
from pydantic import BaseModel, SecretStr

class Options(BaseModel):
    speed: int
    api_key: SecretStr | None = None

opened = []

class Client:
    def generate(self): ...
    def tools(self): ...
    def commit(self): ...

def open_client(options):
    opened.append(options)
    return Client()

def open_tape(url, options):
    return open_client(options)

MODEL = Options

@hookimpl
def abstractruntime_stores():
    return [StoreSpec(scheme="{word}", open=open_tape, summary="", options_model=MODEL)]

@hookimpl
def abstractruntime_llm_clients():
    return [LLMClientSpec(name="llm", open=open_client, summary="", options_model=MODEL)]

@hookimpl
def abstractruntime_tool_sources():
    return [ToolSourceSpec(name="tools", open=open_client, summary="", options_model=MODEL)]
"""


def opened_with(module: str) -> list[object]:
    return sys.modules[module].opened


def test_options_are_validated_and_handed_to_whatever_is_opened(plant):
    module = plant("tape", OPTIONS)
    plugins = host("tape", tape={"speed": "3"})
    open_store_by_url("tape:", plugins.settings, plugins)
    plugins.llm_client()
    plugins.llm_client("llm")
    plugins.tool_source("tools")
    assert [options.speed for options in opened_with(module)] == [3, 3, 3, 3]


def test_a_store_without_options_gets_none_and_a_required_option_of_others_is_asked_for(plant):
    module = plant("tape", OPTIONS)
    plugins = host("tape")
    open_store_by_url("tape:", plugins.settings, plugins)
    assert opened_with(module) == [None]
    for opening in (plugins.llm_client, lambda: plugins.tool_source("tools")):
        error = refused(opening, InvalidSetting)
        assert "plugin 'tape' needs the setting plugin.tape.speed" in error.message
    assert plugins.failures == ()


@pytest.mark.parametrize(
    "ask", [PluginHost.effect_handlers, PluginHost.llm_clients, lambda plugins: plugins.store("tape")]
)
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"speeed": 3}, UnknownSetting, "did you mean plugin.tape.speed?"),
        ({"speed": "fast"}, InvalidSetting, "plugin.tape.speed is 'fast' (default)"),
        ({"speed": 3, "api_key": [SECRET]}, InvalidSetting, "plugin.tape.api_key is *** (default)"),
    ],
)
def test_a_wrong_option_is_an_error_as_soon_as_the_plugin_is_loaded(plant, ask, options, error, message):
    plant("tape", OPTIONS)
    assert message in str(refused(lambda: ask(host("tape", tape=options)), error))


def test_the_report_and_the_commands_survive_a_wrong_option(plant, caplog):
    plant("tape", OPTIONS)
    plugins = host("tape", tape={"speeed": 3})
    assert plugins.commands() == ()
    assert "did you mean plugin.tape.speed?" in info(plugins, "tape").why
    assert "unknown setting 'plugin.tape.speeed'" in caplog.text


def test_a_model_may_be_named_as_text_and_is_imported_only_for_options_that_are_set(plant, tmp_path):
    model = OPTIONS.replace("MODEL = Options", "MODEL = 'planted_model:Options'")
    module = plant("tape", model)
    (tmp_path / "planted-tape" / "planted_model.py").write_text(
        "from pydantic import BaseModel\nclass Options(BaseModel):\n    speed: int\n", encoding="utf-8"
    )
    plugins = host("tape")
    open_store_by_url("tape:", plugins.settings, plugins)
    assert "planted_model" not in sys.modules
    plugins = host("tape", tape={"speed": 3})
    open_store_by_url("tape:", plugins.settings, plugins)
    assert opened_with(module)[1].speed == 3


@pytest.mark.parametrize(
    ("model", "reason"), [("no_such_module:Options", "No module named"), ("sys:path", "names no class")]
)
def test_a_model_that_is_not_there_breaks_the_plugin(plant, model, reason):
    plant("tape", OPTIONS.replace("MODEL = Options", f"MODEL = {model!r}"))
    error = refused(host("tape").llm_client)
    assert "failed at open" in error.message
    assert reason in error.message
    error = refused(lambda: host("tape", tape={"speed": 3}).store("tape"))
    assert "failed at register" in error.message
    assert reason in error.message


def test_options_of_a_plugin_that_has_none_are_unknown(plant):
    plant("tape")
    error = refused(lambda: host("tape", tape={"speed": 3}).store("tape"), UnknownSetting)
    assert str(error) == "unknown setting 'plugin.tape.speed' (default). Hint: there are: none"


def test_the_hook_of_effect_handlers_reads_its_options_from_the_settings(plant):
    body = """
    from pydantic import BaseModel

    class Options(BaseModel):
        colour: str = "red"

    @hookimpl
    def abstractruntime_effect_handlers(settings):
        return {settings.options("paint", Options).colour: EffectSpec(handler=print)}
    """
    plant("paint", body)
    assert host("paint").effect_handlers().keys() == {"red"}
    assert host("paint", paint={"colour": "blue"}).effect_handlers().keys() == {"blue"}
    error = refused(host("paint", paint={"color": "blue"}).effect_handlers, UnknownSetting)
    assert "did you mean plugin.paint.colour?" in error.hint


def test_an_option_that_is_missing_where_none_is_set_keeps_the_plugin_out_and_harms_nobody(plant, caplog):
    body = """
    from pydantic import BaseModel

    class Options(BaseModel):
        colour: str
        size: int = 1

    @hookimpl
    def abstractruntime_effect_handlers(settings):
        return {settings.options("paint", Options).colour: EffectSpec(handler=print)}
    """
    plant("paint", body)
    assert host("paint").effect_handlers() == {}
    assert "plugin 'paint' needs the setting plugin.paint.colour" in caplog.text
    error = refused(host("paint", paint={"size": 2}).effect_handlers, InvalidSetting)
    assert "needs the setting plugin.paint.colour" in error.message


# Opening


WINDING = """
from abstractruntime.errors import StoreMissing
from pydantic import BaseModel

class Options(BaseModel):
    token: str = ""

tries = []

def wind(url, options):
    tries.append(1)
    {body}

@hookimpl
def abstractruntime_stores():
    return [StoreSpec(scheme="tape", open=wind, summary="", options_model=Options)]
"""


def winding(plant: Plant, body: str, **options: dict[str, object]) -> PluginHost:
    """A host with a store `tape` whose opening does what `body` says."""
    plant("tape", WINDING.replace("{body}", body))
    return host("tape", **options)


def opening(plugins: PluginHost, url: str = "tape:") -> Callable[[], Store]:
    return lambda: open_store_by_url(url, plugins.settings, plugins)


def test_an_error_of_ours_while_opening_is_raised_as_it_is(plant):
    plugins = winding(plant, "raise StoreMissing('no reel', hint='buy one')")
    assert str(refused(opening(plugins), StoreMissing)) == "no reel. Hint: buy one"


def test_any_other_error_while_opening_breaks_the_plugin_and_is_kept_as_the_cause(plant):
    error = refused(opening(winding(plant, "raise OSError('no reel')")))
    assert error.message == "plugin 'tape' (planted-tape 1.2.3) failed at open: OSError: no reel"
    assert isinstance(error.__cause__, OSError)
    assert error.failure.stage == "open"


@pytest.mark.parametrize("body", ["return None", "return object()", "pass"])
def test_an_open_that_returns_no_store_breaks_the_plugin(plant, body):
    error = refused(opening(winding(plant, body)))
    assert re.search(r"its open returned (None|object), expected a Store", error.message)


def test_what_a_driver_says_is_repeated_without_the_secrets_it_was_given(plant, caplog):
    caplog.set_level(logging.DEBUG)
    body = "raise OSError(f'{url.raw} {url.query} {options.token}')"
    plugins = winding(plant, body, tape={"token": f"{SECRET}-token"})
    error = refused(opening(plugins, f"tape://ann:{SECRET}@reel?key={SECRET}-key"))
    assert "OSError: tape://ann:***@reel?key=*** {'key': '***'} ***" in error.message
    told = [error, error.values, error.__cause__, error.__context__, plugins.failures, plugins.report(), caplog.text]
    assert SECRET not in repr([*told, *map(str, told)])


def test_what_a_hook_says_is_repeated_without_the_secrets_of_its_options(plant, caplog):
    plant(
        "paint",
        "@hookimpl\ndef abstractruntime_effect_handlers(settings): raise OSError(settings.plugin['paint']['token'])",
    )
    assert host("paint", paint={"token": SECRET}).effect_handlers() == {}
    assert "OSError: ***" in caplog.text
    assert SECRET not in caplog.text


def test_where_a_store_is_opened_is_logged_with_the_resolved_path_and_without_secrets(
    plant, caplog, tmp_path, monkeypatch
):
    caplog.set_level(logging.INFO)
    monkeypatch.chdir(tmp_path)
    plant("tape")
    open_store_by_url(f"tape:///reels/one?key={SECRET}", Settings(), host("tape")).close()
    assert f"{tmp_path.resolve()}/reels/one" in caplog.text
    assert "tape:///reels/one?key=***" in caplog.text
    assert SECRET not in caplog.text


def test_a_failed_opening_stands_in_the_report_until_one_works_and_is_no_reason_for_a_warning(plant, caplog):
    plugins = winding(plant, "if len(tries) > 1: return open_memory(url, None)\n    raise OSError('no reel')")
    refused(opening(plugins))
    assert info(plugins, "tape").why.startswith("failed at open: OSError: no reel. Hint: ")
    assert [failure.stage for failure in plugins.failures] == ["open"]
    assert plugins.effect_handlers() == {}
    assert caplog.records == []
    with opening(plugins)():
        assert info(plugins, "tape").state == "loaded"
        assert plugins.failures == ()


# LLM clients and tools


def test_without_an_llm_client_the_error_says_what_to_install():
    error = refused(host("memory").llm_client, PluginMissing)
    assert str(error) == "no LLM client; installed: none. Hint: pip install abstractruntime-abstractcore"


def test_of_several_llm_clients_one_has_to_be_chosen(plant):
    module = plant("drum", OPTIONS.replace('"llm"', '"drum"').replace("MODEL = Options", "MODEL = None"))
    plant(
        "tape",
        OPTIONS.replace('"llm"', '"tape"').replace('"tools"', '"more"').replace("MODEL = Options", "MODEL = None"),
    )
    plugins = host("drum", "tape")
    assert plugins.llm_clients().keys() == {"drum", "tape"}
    error = refused(plugins.llm_client, PluginConflict)
    assert error.message == "several plugins offer an LLM client, and none was chosen: drum, tape"
    assert plugins.llm_client("drum")
    assert opened_with(module) == [None]
    error = refused(lambda: plugins.llm_client("horn"), PluginMissing)
    assert "no LLM client named 'horn'; installed: drum, tape" in error.message


def test_a_tool_source_that_is_not_there_is_an_error_with_the_nearest_one(plant):
    plant("tape", OPTIONS)
    assert host("tape").tool_sources().keys() == {"tools"}
    error = refused(lambda: host("tape").tool_source("tool"), PluginMissing)
    assert "did you mean 'tools'?" in error.hint


# Observers


def test_a_failing_observer_is_logged_once_with_its_plugin_and_harms_nobody(plant, caplog):
    body = """
    seen = []

    def fails(event):
        raise OSError("no ears")

    @hookimpl
    def abstractruntime_observers():
        return [fails, seen.append]
    """
    module = plant("ears", body)
    for event in ("one", "two"):
        for observer in host("ears").observers():
            observer(event)
    assert sys.modules[module].seen == ["one", "two"]
    caplog.clear()
    first, _ = host("ears").observers()
    first("one")
    first("two")
    (record,) = caplog.records
    assert "an observer of plugin 'ears' failed" in record.message
    assert record.exc_info[0] is OSError


# The documents

ROOT = Path(__file__).parents[2]
HOOKS = [getattr(Hooks, name) for name in vars(Hooks) if name.startswith("abstractruntime_")]


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_every_hook_says_when_it_is_called_what_it_returns_and_what_an_error_does(hook):
    assert "Called when" in hook.__doc__
    assert re.search(r"\bReturns\b", hook.__doc__)
    assert "An exception" in hook.__doc__


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_the_exact_signature_of_every_hook_stands_in_the_reference(hook):
    *parameters, answer = [f"{name}: {annotation}" for name, annotation in hook.__annotations__.items()]
    signature = f"def {hook.__name__}({', '.join(parameters)}) -> {answer.removeprefix('return: ')}: ..."
    assert signature in (ROOT / "docs/reference/plugins.md").read_text(encoding="utf-8").splitlines()


def test_the_plugin_of_the_how_to_is_found_loaded_and_works(tmp_path, monkeypatch):
    page = (ROOT / "docs/how-to/write-a-plugin.md").read_text(encoding="utf-8")
    files = dict(re.findall(r"^```\w+ file=(\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    assert len(files) == 3
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    install(tmp_path / "src", tomllib.loads(files["pyproject.toml"])["project"])
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    settings = Settings(plugin={"webhook": {"token": "t", "timeout_s": "5"}})
    with server() as (url, requests), open_runtime("memory:", settings=settings, workflows=[POSTING]) as runtime:
        run_id = runtime.start(workflow=POSTING, vars={"url": url})
        assert runtime.tick(run_id=run_id).output == {"status": 200}
        busy = runtime.tick(run_id=runtime.start(workflow=POSTING, vars={"url": f"{url}/busy"}))
    assert busy.status is RunStatus.FAILED
    assert "answered 503" in busy.error
    (first_key, *first), (second_key, *_) = requests
    assert first == ["Bearer t", b'{"a": 1}']
    assert first_key != second_key
    error = refused(PluginHost(Settings(plugin={"webhook": {"timeout": 5}})).effect_handlers, UnknownSetting)
    assert error.hint == "did you mean plugin.webhook.timeout_s?"


def post(run: RunState, ctx: RunContext) -> StepPlan:
    payload = {"url": run.vars["url"], "body": {"a": 1}}
    return StepPlan(node_id="post", effect=Effect("webhook", payload, result_key="answer"), next_node="end")


def end(run: RunState, ctx: RunContext) -> StepPlan:
    return StepPlan(node_id="end", complete_output=run.vars["answer"])


POSTING = WorkflowSpec(workflow_id="posting", entry_node="post", nodes={"post": post, "end": end})


def install(folder: Path, project: dict[str, object]) -> None:
    """What a package installer writes for an editable installation: the metadata, beside the sources."""
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"]
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in groups[group].items()) for group in groups
    ]
    (info / "entry_points.txt").write_text("".join(lines))


@contextmanager
def server() -> Iterator[tuple[str, list[tuple[str, str, bytes]]]]:
    """A web server on the loopback; below /busy it answers 503."""
    requests = []

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append((self.headers["Idempotency-Key"], self.headers["Authorization"], body))
            self.send_response(503 if self.path.endswith("/busy") else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answer) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}", requests
        finally:
            serving.shutdown()
            thread.join()
