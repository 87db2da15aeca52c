"""Settings: which source goes first, where each value comes from, and what is said about a wrong one."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from rich.pretty import pretty_repr

from abstractruntime.config import PluginSettings, RuntimeSettings, Settings, load_settings, validate_options
from abstractruntime.errors import ConfigError, InvalidSetting, PluginError, UnknownSetting
from abstractruntime.models import Recovery

SECRET = "s3cr+tPa55"


class Options(BaseModel):
    base_url: str
    port: int = 80
    hosts: list[str] = []
    api_key: SecretStr | None = None
    ratio: Annotated[float, Field(gt=0)] = 0.5


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with nothing in it, and an environment without variables of ours."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def toml(folder: Path, content: str, name: str = "abstractruntime.toml") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def refused(error: type[ConfigError], **given: object) -> ConfigError:
    given.setdefault("environ", {})
    with pytest.raises(error) as caught:
        load_settings(**given)
    return caught.value


# Precedence and origins


def test_without_any_source_all_is_default(folder):
    settings = load_settings(environ={})
    assert settings == Settings()
    assert settings.store is None
    assert settings.plugins == PluginSettings(enabled=None, disabled=(), strict=False)
    assert settings.runtime == RuntimeSettings(
        lease_s=30.0,
        start_grace_s=10.0,
        lease_wait_s=5.0,
        default_recovery=Recovery.ASK,
        max_claims=5,
    )
    assert {entry.origin for entry in settings.entries()} == {"default"}


def test_an_argument_goes_before_the_environment_before_the_file_before_the_default(folder):
    toml(
        folder,
        """
        store = "memory:file"
        [runtime]
        lease_s = 1
        max_claims = 1
        lease_wait_s = 1
        """,
    )
    settings = load_settings(
        environ={"ABSTRACTRUNTIME_STORE": "memory:environment", "ABSTRACTRUNTIME_RUNTIME__LEASE_S": "2.5"},
        store="memory:argument",
        runtime={"max_claims": 3},
    )
    assert settings.store == "memory:argument"
    assert settings.runtime == RuntimeSettings(lease_s=2.5, max_claims=3, lease_wait_s=1.0)
    assert settings.origin("store") == "argument store"
    assert settings.origin("runtime.max_claims") == "argument runtime.max_claims"
    assert settings.origin("runtime.lease_s") == "environment variable ABSTRACTRUNTIME_RUNTIME__LEASE_S"
    assert settings.origin("runtime.lease_wait_s") == "abstractruntime.toml: runtime.lease_wait_s"
    assert settings.origin("runtime.start_grace_s") == "default"


def test_plugin_options_of_several_sources_are_merged_option_by_option(folder):
    toml(folder, '[plugin.s3]\nregion = "file"\nendpoint = "file"\nprefix = "file"')
    settings = load_settings(
        environ={"ABSTRACTRUNTIME_PLUGIN__S3__ENDPOINT": "env", "ABSTRACTRUNTIME_PLUGIN__S3__PREFIX": "env"},
        plugin={"s3": {"prefix": "argument"}},
    )
    assert settings.plugin == {"s3": {"region": "file", "endpoint": "env", "prefix": "argument"}}
    assert settings.origin("plugin.s3.endpoint") == "environment variable ABSTRACTRUNTIME_PLUGIN__S3__ENDPOINT"
    assert settings.origin("plugin.s3.region") == "abstractruntime.toml: plugin.s3.region"
    assert settings.origin("plugin.s3.prefix") == "argument plugin.s3.prefix"
    assert settings.origin("plugin.s3.unset") == "default"


def test_a_given_folder_is_named_in_the_origin(tmp_path):
    path = toml(tmp_path, 'store = "memory:"')
    assert load_settings(cwd=tmp_path, environ={}).origin("store") == f"{path}: store"


def test_pyproject_is_a_second_place_for_the_file(folder):
    toml(folder, '[project]\nname = "x"\n[tool.abstractruntime.runtime]\nmax_claims = 2', "pyproject.toml")
    settings = load_settings(environ={})
    assert settings.runtime.max_claims == 2
    assert settings.origin("runtime.max_claims") == "pyproject.toml: tool.abstractruntime.runtime.max_claims"


@pytest.mark.parametrize("content", ['[project]\nname = "x"', '[project]\ndependencies = ["abstractruntime"]'])
def test_a_pyproject_of_somebody_else_is_no_source(folder, content):
    toml(folder, content, "pyproject.toml")
    assert load_settings(environ={}) == Settings()


def test_beside_its_own_file_the_table_in_pyproject_is_not_read_and_that_is_said(folder, caplog):
    toml(folder, 'store = "memory:own"')
    toml(folder, '[tool.abstractruntime]\nstore = "memory:shared"', "pyproject.toml")
    assert load_settings(environ={}).store == "memory:own"
    assert "[tool.abstractruntime] in pyproject.toml is not read, because there is abstractruntime.toml" in caplog.text


def test_the_process_environment_is_read_where_none_is_given(folder, monkeypatch):
    monkeypatch.setenv("ABSTRACTRUNTIME_STORE", "memory:here")
    assert load_settings().store == "memory:here"


@pytest.mark.parametrize("text", ["sqlite, s3", "sqlite,s3,", '["sqlite", "s3"]'])
def test_a_list_variable_holds_words_or_json(folder, text):
    settings = load_settings(environ={"ABSTRACTRUNTIME_PLUGINS__ENABLED": text})
    assert settings.plugins.enabled == ("sqlite", "s3")


def test_an_empty_list_enables_nothing_and_an_empty_variable_says_nothing(folder):
    assert load_settings(environ={"ABSTRACTRUNTIME_PLUGINS__ENABLED": "[]"}).plugins.enabled == ()
    assert load_settings(environ={"ABSTRACTRUNTIME_PLUGINS__ENABLED": ""}).plugins.enabled is None


def test_variables_set_every_kind_of_setting(folder):
    settings = load_settings(
        environ={
            "ABSTRACTRUNTIME_PLUGINS__DISABLED": "s3",
            "ABSTRACTRUNTIME_PLUGINS__STRICT": "true",
            "ABSTRACTRUNTIME_RUNTIME__DEFAULT_RECOVERY": "read",
            "ABSTRACTRUNTIME_PLUGIN__S3__RETRY__MAX": "3",
            "UNRELATED": "x",
        }
    )
    assert settings.plugins == PluginSettings(disabled=("s3",), strict=True)
    assert settings.runtime == RuntimeSettings(default_recovery=Recovery.READ)
    assert settings.plugin == {"s3": {"retry": {"max": "3"}}}


def test_an_argument_may_be_the_value_itself_and_none_is_not_given(folder):
    settings = load_settings(environ={}, store=None, runtime=RuntimeSettings(lease_s=3))
    assert settings.store is None
    assert settings.runtime.lease_s == 3
    assert settings.origin("store") == "default"


# Names that nobody knows


@pytest.mark.parametrize(
    ("content", "key", "meant"),
    [
        ('stroe = "memory:"', "stroe", "store"),
        ('Store = "memory:"', "Store", "store"),
        ("[runtime]\nlease = 3", "runtime.lease", "runtime.lease_s"),
        ("[plugins]\nenable = []", "plugins.enable", "plugins.enabled"),
        ("[runtimes]\nlease_s = 3", "runtimes", "runtime"),
    ],
)
def test_an_unknown_key_is_an_error_with_file_and_nearest_key(folder, content, key, meant):
    toml(folder, content)
    error = refused(UnknownSetting)
    assert error.message.startswith(f"unknown setting {key!r} (abstractruntime.toml: {key}")
    assert error.hint == f"did you mean {meant}?"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ABSTRACTRUNTIME_STROE", "ABSTRACTRUNTIME_STORE"),
        ("ABSTRACTRUNTIME_store", "ABSTRACTRUNTIME_STORE"),
        ("ABSTRACTRUNTIME_RUNTIME__LEASES", "ABSTRACTRUNTIME_RUNTIME__LEASE_S"),
        ("ABSTRACTRUNTIME_RUNTIME_LEASE_S", "ABSTRACTRUNTIME_RUNTIME__LEASE_S"),
        ("ABSTRACTRUNTIME_PLUGINS_ENABLED", "ABSTRACTRUNTIME_PLUGINS__ENABLED"),
    ],
)
def test_an_unknown_variable_is_an_error_with_the_nearest_one(folder, name, meant):
    error = refused(UnknownSetting, environ={name: "x"})
    assert str(error) == f"unknown environment variable {name!r}. Hint: did you mean {meant}?"


@pytest.mark.parametrize("tail", ["S3", "S3__", "__REGION", "s3__region", "S3__region"])
def test_a_variable_that_names_no_option_of_a_plugin_is_an_error(folder, tail):
    error = refused(UnknownSetting, environ={f"ABSTRACTRUNTIME_PLUGIN__{tail}": "x"})
    assert "ABSTRACTRUNTIME_PLUGIN__<WORD>__<OPTION>" in error.hint


def test_an_unknown_argument_is_an_error(folder):
    assert str(refused(UnknownSetting, stor="x")) == "unknown setting 'stor' (argument stor). Hint: did you mean store?"


def test_where_nothing_is_near_all_names_are_listed(folder):
    error = refused(UnknownSetting, environ={"ABSTRACTRUNTIME_QQQ": "x"})
    assert "ABSTRACTRUNTIME_STORE" in error.hint
    assert "ABSTRACTRUNTIME_RUNTIME__MAX_CLAIMS" in error.hint


def test_the_origin_of_a_setting_that_does_not_exist_is_an_error():
    with pytest.raises(UnknownSetting, match=r"did you mean runtime\.lease_s"):
        Settings().origin("runtime.leases")


# Values of the wrong kind


@pytest.mark.parametrize(
    ("content", "key", "reason"),
    [
        ("store = 5", "store is 5", "valid string"),
        ('[runtime]\nlease_s = "soon"', "runtime.lease_s is 'soon'", "valid number"),
        ("[runtime]\nlease_s = 0", "runtime.lease_s is 0.0", "more than 0 seconds"),
        ("[runtime]\nlease_s = inf", "runtime.lease_s is inf", "more than 0 seconds"),
        ("[runtime]\nlease_s = nan", "runtime.lease_s is nan", "more than 0 seconds"),
        ("[runtime]\nstart_grace_s = -1", "runtime.start_grace_s is -1.0", "0 seconds or more"),
        ("[runtime]\nlease_wait_s = -1", "runtime.lease_wait_s is -1.0", "0 seconds or more"),
        ("[runtime]\nmax_claims = 0", "runtime.max_claims is 0", "1 or more"),
        ("[runtime]\nmax_claims = 1.5", "runtime.max_claims is 1.5", "valid integer"),
        ('[runtime]\ndefault_recovery = "never"', "runtime.default_recovery is 'never'", "'idempotent'"),
        ('[runtime]\ndefault_recovery = "reconcile"', "runtime.default_recovery is 'reconcile'", "reconcile hook"),
        ("runtime = 5", "runtime is 5", "dictionary"),
        ('[plugins]\nenabled = "s3"', "plugins.enabled is 's3'", "valid tuple"),
        ("[plugin]\ns3 = 5", "plugin.s3 is 5", "dictionary"),
    ],
)
def test_a_wrong_value_is_named_with_key_and_origin(folder, content, key, reason):
    toml(folder, content)
    error = refused(InvalidSetting)
    assert error.message.startswith(key)
    assert f"(abstractruntime.toml: {error.key})" in error.message
    assert reason in error.message


def test_a_wrong_variable_is_named(folder):
    error = refused(InvalidSetting, environ={"ABSTRACTRUNTIME_RUNTIME__MAX_CLAIMS": "many"})
    assert "runtime.max_claims is 'many' (environment variable ABSTRACTRUNTIME_RUNTIME__MAX_CLAIMS)" in error.message


def test_a_list_variable_that_is_no_json_list_of_texts_is_named(folder):
    error = refused(InvalidSetting, environ={"ABSTRACTRUNTIME_PLUGINS__DISABLED": "[1]"})
    assert "plugins.disabled is '[1]' (environment variable ABSTRACTRUNTIME_PLUGINS__DISABLED)" in error.message


def test_two_variables_cannot_set_an_option_and_a_part_of_it(folder):
    environ = {"ABSTRACTRUNTIME_PLUGIN__S3__RETRY": "3", "ABSTRACTRUNTIME_PLUGIN__S3__RETRY__MAX": "3"}
    assert "ABSTRACTRUNTIME_PLUGIN__S3__RETRY__MAX" in refused(InvalidSetting, environ=environ).message


def test_values_made_in_code_are_held_to_the_same_ranges():
    with pytest.raises(InvalidSetting, match=r"runtime\.lease_s is 0; it must be more than 0 seconds"):
        RuntimeSettings(lease_s=0)


# Files that cannot be used


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"store = = 3", 1), (b'\n\nstore = "a"\nstore = "b"', 4), (b'a = 1\nb = "x', 2), (b"a = 1\nb = '\xff'", 2)],
)
@pytest.mark.parametrize("name", ["abstractruntime.toml", "pyproject.toml"])
def test_malformed_toml_is_an_error_with_file_and_line(folder, content, line, name):
    (folder / name).write_bytes(content + b"\n# abstractruntime" if name == "pyproject.toml" else content)
    error = refused(ConfigError)
    assert error.message.startswith(f"{name}, line {line}: no valid TOML")
    assert (error.file, error.line) == (name, line)


def test_a_file_that_cannot_be_read_is_an_error_with_its_name(folder):
    (folder / "abstractruntime.toml").mkdir()
    assert "abstractruntime.toml cannot be read: Is a directory" in refused(ConfigError).message


def test_a_tool_table_that_is_none_is_an_error(folder):
    toml(folder, "[tool]\nabstractruntime = 3", "pyproject.toml")
    assert refused(ConfigError).hint == "write [tool.abstractruntime]"


# A plugin's own options


def options(raw: dict[str, object], model: type = Options, origin: str = "abstractruntime.toml") -> object:
    return Settings(plugin={"web": raw}, origins={f"plugin.web.{name}": origin for name in raw}).options("web", model)


def refused_options(error: type[ConfigError], raw: dict[str, object], model: type = Options) -> ConfigError:
    with pytest.raises(error) as caught:
        options(raw, model)
    return caught.value


def test_options_become_an_instance_of_the_plugins_model():
    found = options({"base_url": "http://host", "port": 8080, "api_key": "k"})
    assert found == Options(base_url="http://host", port=8080, api_key=SecretStr("k"))


def test_texts_of_variables_become_what_the_model_wants():
    found = options({"base_url": "007", "port": "8080", "hosts": '["a", "b"]', "api_key": "123", "ratio": "2"})
    assert found == Options(base_url="007", port=8080, hosts=["a", "b"], api_key=SecretStr("123"), ratio=2.0)


def test_an_unknown_option_is_an_error_with_the_nearest_one():
    error = refused_options(UnknownSetting, {"base_url": "u", "prot": 1})
    assert str(error) == "unknown setting 'plugin.web.prot' (abstractruntime.toml). Hint: did you mean plugin.web.port?"


def test_a_wrong_option_is_named_with_its_origin():
    error = refused_options(InvalidSetting, {"base_url": "u", "port": "soon"})
    assert error.message.startswith("plugin.web.port is 'soon' (abstractruntime.toml): input should be a valid integer")


def test_a_text_that_is_no_list_stays_a_text_in_the_error():
    assert "plugin.web.hosts is 'a,b'" in refused_options(InvalidSetting, {"base_url": "u", "hosts": "a,b"}).message
    assert "plugin.web.hosts is '3'" in refused_options(InvalidSetting, {"base_url": "u", "hosts": "3"}).message


def test_a_missing_option_is_an_error_that_says_where_to_set_it():
    error = refused_options(InvalidSetting, {})
    assert str(error) == (
        "plugin 'web' needs the setting plugin.web.base_url, and it is not set. "
        "Hint: set base_url in [plugin.web] of abstractruntime.toml, "
        "or the variable ABSTRACTRUNTIME_PLUGIN__WEB__BASE_URL"
    )


def test_aliases_are_names_of_options_and_a_hidden_name_is_not():
    class Aliased(BaseModel):
        first: int = Field(default=1, alias="one")
        second: int = Field(default=2, validation_alias=AliasChoices("two", "zwei"))

    assert options({"one": 10, "zwei": 20}, Aliased) == Aliased(one=10, two=20)
    refused_options(UnknownSetting, {"first": 10}, Aliased)


def test_a_model_that_takes_names_beside_aliases_takes_both():
    class Named(BaseModel):
        model_config = ConfigDict(populate_by_name=True)
        first: int = Field(default=1, alias="one")

    assert options({"first": 10}, Named) == Named(one=10) == options({"one": 10}, Named)


def test_a_model_that_takes_anything_gets_anything():
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")

    assert options({"whatever": 3}, Open).whatever == 3


def test_a_part_of_an_option_is_named_by_its_path():
    class Retry(BaseModel):
        limit: int

    class Nested(BaseModel):
        retry: Retry

    assert options({"retry": {"limit": "3"}}, Nested).retry.limit == 3
    assert "plugin.web.retry.limit is 'x'" in refused_options(InvalidSetting, {"retry": {"limit": "x"}}, Nested).message
    missing = refused_options(InvalidSetting, {"retry": {}}, Nested)
    assert "[plugin.web.retry]" in missing.hint
    assert "ABSTRACTRUNTIME_PLUGIN__WEB__RETRY__LIMIT" in missing.hint


@pytest.mark.parametrize("model", [dict, 3, "module:Name"])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(PluginError, match="the options model of plugin 'web' is"):
        validate_options("web", {}, model)


# Secrets


class Checked(BaseModel):
    api_key: str = ""
    tokens: dict[str, str] = {}
    url: str = ""

    @field_validator("api_key")
    @classmethod
    def _short(cls, value: str) -> str:
        if len(value) > 3:
            raise ValueError(f"{value} is too long")
        return value

    @model_validator(mode="after")
    def _fits(self) -> "Checked":
        if self.tokens:
            raise ValueError(f"{self.tokens} and {self.url} do not fit")
        return self


@pytest.mark.parametrize(
    ("model", "raw"),
    [
        (Checked, {"api_key": SECRET}),
        (Checked, {"api_key": [SECRET]}),
        (Checked, {"tokens": {"a": SECRET}}),
        (Options, {"base_url": "u", "api_key": {"a": SECRET}}),
        (Options, {"base_url": [f"pg://ann:{SECRET}@host/db"]}),
        (Options, {"base_url": "u", "port": f"http://ann:{SECRET}@host"}),
    ],
)
def test_no_error_about_options_shows_a_secret_and_nothing_that_does_hangs_on_it(model, raw):
    error = refused_options(InvalidSetting, raw, model)
    assert SECRET not in f"{error} {error!r} {error.values}"
    assert error.__context__ is None


def test_no_error_about_settings_shows_a_secret(folder):
    for given in ({"store": {"password": SECRET}}, {"store": [f"pg://ann:{SECRET}@host"]}):
        error = refused(InvalidSetting, **given)
        assert SECRET not in f"{error} {error!r} {error.values}"
        assert error.__context__ is None


def test_settings_show_all_that_is_set_but_secrets(folder):
    settings = load_settings(
        environ={"ABSTRACTRUNTIME_STORE": f"pg://ann:{SECRET}@host/runs"},
        plugin={
            "keys": {"region": "eu", "api_key": SECRET, "nested": {"token": SECRET}, "max_tokens": 512},
            "web": {"urls": [f"http://ann:{SECRET}@host"]},
        },
    )
    for shown in (repr(settings), str(settings), pretty_repr(settings), repr(settings.entries()), repr([settings])):
        assert SECRET not in shown
        assert "pg://ann:***@host/runs" in shown
        assert "512" in shown
        assert "eu" in shown


def test_the_representation_tells_what_differs_from_the_defaults_only():
    assert repr(Settings()) == "Settings()"
    assert repr(Settings(runtime=RuntimeSettings(lease_s=3))) == "Settings(runtime.lease_s=3)"


def test_entries_list_every_setting_with_value_and_origin(folder):
    toml(folder, '[plugin.web]\nbase_url = "http://host"\napi_key = "k"')
    entries = {entry.key: (entry.value, entry.origin) for entry in load_settings(environ={}).entries()}
    assert entries["store"] == ("None", "default")
    assert entries["runtime.default_recovery"] == ("'ask'", "default")
    assert entries["plugin.web.base_url"] == ("'http://host'", "abstractruntime.toml: plugin.web.base_url")
    assert entries["plugin.web.api_key"] == ("***", "abstractruntime.toml: plugin.web.api_key")
    known = {f"plugins.{name}" for name in PluginSettings.__struct_fields__}
    known |= {f"runtime.{name}" for name in RuntimeSettings.__struct_fields__}
    assert entries.keys() == {"store", *known, "plugin.web.base_url", "plugin.web.api_key"}


# The document

ROOT = Path(__file__).parents[2]


def test_every_setting_stands_in_the_reference_with_variable_and_default():
    page = (ROOT / "docs/reference/configuration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_.]+)` \| `([A-Z_]+)` \| `?([^|`]+)`? \|", page, re.MULTILINE)
    defaults = {
        entry.key: entry.value.replace("'", '"').replace("None", "none").replace("False", "false")
        for entry in Settings().entries()
    }
    assert {key: default for key, _, default in rows} == defaults
    for key, variable, _ in rows:
        assert variable == "ABSTRACTRUNTIME_" + key.upper().replace(".", "__")


def test_the_files_of_the_reference_can_be_loaded(tmp_path):
    page = (ROOT / "docs/reference/configuration.md").read_text(encoding="utf-8")
    files = re.findall(r"^```toml\n# (\S+)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert {name for name, _ in files} == {"abstractruntime.toml", "pyproject.toml"}
    for number, (name, content) in enumerate(files):
        folder = tmp_path / str(number)
        folder.mkdir()
        toml(folder, content, name)
        assert load_settings(cwd=folder, environ={}).origins


# What it costs

PROGRAM = """
import json, sys
from abstractruntime.config import load_settings
from abstractruntime.plugins import open_store_by_url
with open_store_by_url("memory:", load_settings()):
    pass
heavy = {"pydantic", "pydantic_core", "pydantic_settings", "tomllib", "difflib"}
json.dump(sorted(heavy & sys.modules.keys()), sys.stdout)
"""


def heavy_imports(folder: Path, **variables: str) -> list[str]:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=folder, env=variables, capture_output=True, text=True, check=True
    )
    return json.loads(found.stdout)


def test_without_a_source_of_settings_a_store_opens_without_pydantic_and_toml(tmp_path):
    toml(tmp_path, '[project]\nname = "somebody-elses"', "pyproject.toml")
    assert heavy_imports(tmp_path, UNRELATED="x") == []


def test_with_a_source_they_are_there(tmp_path):
    assert "pydantic_settings" in heavy_imports(tmp_path, ABSTRACTRUNTIME_RUNTIME__LEASE_S="3")
