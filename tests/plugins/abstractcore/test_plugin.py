"""The plugin as the framework sees it: its hook, its options, and what it costs to import."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

import abstractruntime_abstractcore as plugin
from abstractruntime.errors import InvalidSetting
from abstractruntime.hookspecs import LLMClientSpec
from abstractruntime_abstractcore.client import RemoteAbstractCoreLLMClient, open_client
from abstractruntime_abstractcore.options import ClientOptions


def options(**values):
    return ClientOptions(**({"base_url": "http://127.0.0.1:8000/v1", "model": "tiny"} | values))


def test_it_offers_one_llm_client_under_its_own_word():
    (spec,) = plugin.abstractruntime_llm_clients()
    assert isinstance(spec, LLMClientSpec)
    assert (spec.name, spec.options_model) == ("abstractcore", "abstractruntime_abstractcore.options:ClientOptions")
    with spec.open(options()) as client:
        assert isinstance(client, RemoteAbstractCoreLLMClient)


def test_importing_it_imports_neither_httpx_nor_pydantic():
    script = (
        "import sys, abstractruntime_abstractcore, abstractruntime_abstractcore.client as c\n"
        "loaded = {'httpx', 'pydantic', 'abstractcore'} & sys.modules.keys()\n"
        "assert not loaded, loaded\n"
        "c.RemoteAbstractCoreLLMClient(server_base_url='http://127.0.0.1', model='m').close()\n"
        "assert 'httpx' in sys.modules and 'abstractcore' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("values", "option"),
    [
        ({"base_url": "localhost:8000"}, "base_url"),
        ({"model": ""}, "model"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": float("inf")}, "timeout_s"),
        ({"modell": "x"}, "modell"),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(values, option):
    with pytest.raises(ValidationError) as refused:
        options(**values)
    assert [error["loc"] for error in refused.value.errors()] == [(option,)]


def test_url_and_model_are_needed():
    with pytest.raises(ValidationError) as refused:
        ClientOptions()
    assert {error["loc"][0] for error in refused.value.errors()} == {"base_url", "model"}


def test_secrets_are_not_shown():
    shown = repr(options(api_key="sk-1", headers={"X-Api-Key": "tenant-9"}))
    assert "sk-1" not in shown
    assert "tenant-9" not in shown


def test_key_and_headers_are_sent(server, completion):
    server.answers(completion())
    with open_client(options(base_url=server.url, api_key="sk-1", headers={"X-Tenant": "t"}, timeout_s="20")) as client:
        client.generate(prompt="?")
    headers = server.requests[0].headers
    assert (headers["authorization"], headers["x-tenant"]) == ("Bearer sk-1", "t")


def test_an_authorization_header_of_ones_own_goes_before_the_key(server, completion):
    server.answers(completion())
    with open_client(options(base_url=server.url, api_key="sk-1", headers={"authorization": "Basic x"})) as client:
        client.generate(prompt="?")
    assert server.requests[0].headers["authorization"] == "Basic x"


def test_opened_without_options_it_says_what_to_set():
    with pytest.raises(InvalidSetting, match="opened with NoneType") as refused:
        open_client(None)
    assert "base_url and model" in refused.value.hint
