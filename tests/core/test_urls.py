"""Store URLs: what they name, what is refused and with which advice, and that no form of them shows a secret."""

import re
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from abstractruntime.errors import ConfigError, InvalidUrl
from abstractruntime.store.contract import StoreUrl
from abstractruntime.urls import FILE_SCHEMES, hide_url_secrets, looks_secret, parse_store_url, redact_url

BASE = Path("/base")
PASSWORD = "s3cr+tPa55"


def parse(text: str) -> StoreUrl:
    return parse_store_url(text, base=BASE)


@pytest.mark.parametrize(
    ("text", "scheme", "path"),
    [
        ("memory:", "memory", ""),
        ("memory:name", "memory", "name"),
        ("sqlite:///runs.db", "sqlite", "/base/runs.db"),
        ("sqlite:///folder/runs.db", "sqlite", "/base/folder/runs.db"),
        ("sqlite:///./runs.db", "sqlite", "/base/runs.db"),
        ("sqlite:///../runs.db", "sqlite", "/runs.db"),
        ("sqlite:////folder/runs.db", "sqlite", "/folder/runs.db"),
        ("file:///folder", "file", "/base/folder"),
        ("file:////folder", "file", "/folder"),
        ("s3://bucket/prefix", "s3", "bucket/prefix"),
        ("s3://bucket/prefix/", "s3", "bucket/prefix"),
        ("postgres://ann:pass@host:5432/runs", "postgres", "host:5432/runs"),
        ("other:///folder/place", "other", "/base/folder/place"),
        ("SQLite:///runs.db", "sqlite", "/base/runs.db"),
    ],
)
def test_a_url_names_a_store_and_a_place(text, scheme, path):
    url = parse(text)
    assert (url.scheme, url.path, url.namespace, url.query, url.raw) == (scheme, path, "default", {}, text)


def test_a_relative_path_starts_from_the_base_and_is_resolved_through_links(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert parse_store_url("file:///link/runs", base=tmp_path).path == str(tmp_path / "real" / "runs")


def test_a_link_that_leads_to_itself_is_refused(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InvalidUrl, match="cannot be resolved"):
        parse_store_url("file:///loop/runs", base=tmp_path)


def test_the_namespace_is_taken_out_of_the_parameters():
    url = parse("s3://bucket/prefix?region=eu-central-1&namespace=billing&empty=")
    assert url.namespace == "billing"
    assert url.query == {"region": "eu-central-1", "empty": ""}


def test_parts_are_percent_decoded_and_a_plus_is_a_plus():
    url = parse("file:///a%20b/%3F%23?name=x%26y+z")
    assert url.path == "/base/a b/?#"
    assert url.query == {"name": "x&y+z"}


@pytest.mark.parametrize("scheme", sorted(FILE_SCHEMES))
@pytest.mark.parametrize("rest", ["runs.db", "//runs.db", "/runs.db", "/////runs.db"])
def test_a_path_that_is_neither_relative_nor_absolute_is_refused_and_both_forms_are_shown(scheme, rest):
    with pytest.raises(InvalidUrl) as caught:
        parse(f"{scheme}:{rest}")
    assert caught.value.hint == (
        f"write {scheme}:///runs.db (relative to the working folder) or {scheme}:////runs.db (absolute)"
    )


@pytest.mark.parametrize(
    ("text", "flaw", "advice"),
    [
        ("", "has no scheme", "sqlite:///runs.db"),
        ("runs.db", "has no scheme", "sqlite:///runs.db"),
        ("C:\\runs.db", "begins with 'C', which is no scheme", "sqlite:///runs.db"),
        ("my store:x", "begins with 'my store', which is no scheme", "letters, digits"),
        ("3s://x", "begins with '3s', which is no scheme", "letters, digits"),
        ("sqlite:///", "names no file or folder", "sqlite:///folder/name"),
        ("sqlite:////", "names no file or folder", "sqlite:///folder/name"),
        ("sqlite:///~/runs.db", "only shells expand", "absolute path"),
        ("sqlite:///:memory:", "nothing is kept", "memory:"),
        ("sqlite:///a%00b", "NUL", "sqlite:///folder/name"),
        ("sqlite:///a\nb", "cannot be printed", "line ends"),
        ("memory:?namespace=", "empty namespace", "?namespace=NAME"),
        ("s3://bucket?region", "without name or value: 'region'", "?name=value"),
        ("s3://bucket?=x", "without name or value: '=x'", "?name=value"),
        ("s3://bucket?a=1&a=2", "parameter 'a' twice", "keep one"),
        ("postgres://ann:a/b@host/db", "/ ? # @ in its password", "%2F"),
    ],
)
def test_a_malformed_url_says_what_is_wrong_and_what_to_write(text, flaw, advice):
    with pytest.raises(InvalidUrl) as caught:
        parse(text)
    assert flaw in caught.value.message
    assert advice in caught.value.hint
    assert isinstance(caught.value, ConfigError)


def test_a_url_that_is_no_text_is_refused():
    with pytest.raises(InvalidUrl, match="is text, not PosixPath"):
        parse(Path("runs.db"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"postgres://ann:{PASSWORD}@host/db", "postgres://ann:***@host/db"),
        (f"postgres://:{PASSWORD}@host/db", "postgres://:***@host/db"),
        (f"postgres://ann:{PASSWORD}@more@host/db", "postgres://ann:***@host/db"),
        (f"postgres://ann:{PASSWORD}/more?or#less@host/db", "postgres://ann:***@host/db"),
        ("postgres://ann:4321@host:5432/db", "postgres://ann:***@host:5432/db"),
        (f"s3://bucket?region=eu&secret_key={PASSWORD}&x=1", "s3://bucket?region=eu&secret_key=***&x=1"),
        (f"s3://bucket?Session-Token={PASSWORD}", "s3://bucket?Session-Token=***"),
        (f"pg://h/db?p%61ssword={PASSWORD}", "pg://h/db?p%61ssword=***"),
        ("postgres://ann@host:5432/db?user=a@b", "postgres://ann@host:5432/db?user=a@b"),
        ("postgres://host:5432/db?user=a@b", "postgres://host:5432/db?user=a@b"),
        ("sqlite:///a:b/c@d.db", "sqlite:///a:b/c@d.db"),
        ("memory:", "memory:"),
        ("not a url at all", "not a url at all"),
    ],
)
def test_a_shown_url_keeps_everything_but_its_secrets(text, shown):
    assert redact_url(text) == shown


@given(st.text())
def test_any_text_can_be_redacted(text):
    assert redact_url(redact_url(text)) == redact_url(text)


@given(st.text(alphabet="abcXYZ0189_.!~*'()@/?#:&=% -", min_size=8))
def test_no_password_survives_redaction_however_it_is_written(password):
    assume(not re.match(r"\d{1,5}[/?]", password))  # a port, for all that can be known
    assert password not in redact_url(f"postgres://ann:{password}@host/db").removeprefix("postgres://ann:")


def test_no_form_of_a_parsed_url_but_raw_and_query_shows_its_secrets():
    url = parse(f"s3://ann:{PASSWORD}@bucket/prefix?token={PASSWORD}x")
    for shown in (repr(url), str(url), f"{url}", pretty_repr(url), url.text, url.path):
        assert PASSWORD not in shown


def test_no_error_about_a_url_shows_its_secrets():
    for text in (
        f"pg://ann:{PASSWORD}@host/db?a",
        f"sqlite:ann:{PASSWORD}@host?password={PASSWORD}",
        f"pg://h?password={PASSWORD}&password={PASSWORD}",
        f"pg://ann:{PASSWORD}/@host/db",
    ):
        with pytest.raises(InvalidUrl) as caught:
            parse(text)
        assert PASSWORD not in f"{caught.value} {caught.value!r} {caught.value.values}"


def test_the_words_of_a_driver_lose_the_secrets_of_the_url_escaped_or_not():
    url = parse(f"pg://ann:{PASSWORD}%21@host/db?sslpassword=hush%2Bhush")
    words = f"cannot connect to {url.raw}: {PASSWORD}! and {PASSWORD}%21 and hush+hush are wrong"
    assert hide_url_secrets(words, url) == f"cannot connect to {url.text}: *** and *** and *** are wrong"


@pytest.mark.parametrize("name", ["password", "PASSWORD", "api_key", "apikey", "auth-token", "client.secret", "pwd"])
def test_a_name_that_sounds_secret_is_taken_for_one(name):
    assert looks_secret(name)


@pytest.mark.parametrize("name", ["region", "max_tokens", "max_output_tokens", "timeout_s", "user", ""])
def test_other_names_are_shown(name):
    assert not looks_secret(name)
