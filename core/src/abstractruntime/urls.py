"""Store URLs: which store, where, with which parameters; and how they are shown without their secrets.

::

    memory:                        one store for as long as it is open
    memory:name                    the same for all who name it, in one process
    sqlite:///runs.db              three slashes: relative to the working folder
    sqlite:////var/lib/runs.db     four slashes: absolute
    s3://bucket/prefix?region=eu-central-1&namespace=billing

The scheme is the plugin's word. ``namespace`` is a parameter of every store; what the others mean, the store says.
Parts are percent-decoded, so a ``?`` in a file name is written ``%3F``.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from .errors import InvalidUrl
from .store.contract import StoreUrl

__all__ = ["FILE_SCHEMES", "hide_url_secrets", "looks_secret", "parse_store_url", "redact_url"]

FILE_SCHEMES = frozenset({"file", "sqlite"})
"""Schemes that name a place on this machine and nothing else: any other form than a path is refused."""

DEFAULT_NAMESPACE = "default"

# Two characters at least: `C:\\runs.db` is a path somebody meant, not a store named "c".
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+._-]+")
# A limit counted in tokens is the one common option that sounds like a secret and is none.
_TOKEN_LIMIT = re.compile(r"(?:^|[._-])(?:max|min)_(?:\w+_)?tokens$")
_SECRET_WORDS = ("credential", "key", "passphrase", "passwd", "password", "pwd", "secret", "signature", "token")
# A password is taken to end at the last `@`: whoever forgot to escape it may have any of `/?#@` in it. What follows the
# colon is no password where it is a port number and the host ends there.
_PASSWORD = re.compile(r"^([^:/?#]*:(?://)?[^/?#:@]*):(?!\d{1,5}(?:[/?]|$))(.*)@", re.DOTALL)
_PARAMETER = re.compile(r"(?<=[?&;])([^=&;]*)=[^&;]*")
_HIDDEN = "***"


def looks_secret(name: str) -> bool:
    """Whether a value of that name is kept out of messages and logs. Rather too often than too seldom."""
    lowered = name.lower()
    return any(word in lowered for word in _SECRET_WORDS) and not _TOKEN_LIMIT.search(lowered)


def redact_url(text: str) -> str:
    """``text`` with ``user:password@`` shown as ``user:***@``, and secret parameters as ``name=***``.

    Takes any text, a malformed URL too, and never raises: it stands in the messages about malformed URLs.
    """
    text = _PASSWORD.sub(rf"\1:{_HIDDEN}@", text)
    return _PARAMETER.sub(_redact_parameter, text)


def hide_url_secrets(text: str, url: StoreUrl) -> str:
    """``text``, somebody else's message about ``url``, without the URL's secrets."""
    text = text.replace(url.raw, url.text)
    password = _PASSWORD.match(url.raw)
    secrets = [value for name, value in url.query.items() if looks_secret(name)]
    if password:
        secrets += [password[2], _decoded(password[2])]
    for secret in filter(None, secrets):
        text = text.replace(secret, _HIDDEN)
    return text


def _redact_parameter(match: re.Match[str]) -> str:
    name = match[1]
    return f"{name}={_HIDDEN}" if looks_secret(_decoded(name)) else match[0]


def parse_store_url(text: str, *, base: Path) -> StoreUrl:
    """The parts of a store URL; ``base`` is the folder that relative paths start from. Touches no file.

    ``path`` is resolved and absolute wherever the URL has an empty host (``scheme:///…``), which `FILE_SCHEMES` must;
    elsewhere it is what stands between scheme and parameters, without slashes around it and without ``user:password@``.
    Raises `InvalidUrl` that says what to write.
    """
    scheme, rest, query = _split(text)
    parameters = _parameters(query, text)
    namespace = parameters.pop("namespace", DEFAULT_NAMESPACE)
    if not namespace:
        raise _invalid(text, "names an empty namespace", "write ?namespace=NAME, or leave the parameter out")
    if rest.startswith("///"):
        path = _local_path(rest, text, scheme, base)
    elif scheme in FILE_SCHEMES:
        raise _invalid(text, "does not say whether its path is relative or absolute", _path_forms(scheme, rest))
    else:
        path = _decoded(rest.rpartition("@")[2] if rest.startswith("//") else rest).strip("/")
    return StoreUrl(
        scheme=scheme, text=redact_url(text), path=path, namespace=namespace, query=parameters, raw=text
    )  # fmt: skip


def _split(text: str) -> tuple[str, str, str]:
    if not isinstance(text, str):
        raise InvalidUrl(f"a store URL is text, not {type(text).__name__}", hint="write it like sqlite:///runs.db")
    if any(not character.isprintable() for character in text):
        raise _invalid(
            text, "holds a character that cannot be printed", "remove line ends, tabs and control characters"
        )
    scheme, colon, rest = text.partition(":")
    if not colon:
        raise _invalid(text, "has no scheme", f"for a database file write sqlite:///{text or 'runs.db'}")
    if not _SCHEME.fullmatch(scheme):
        raise _invalid(
            text,
            f"begins with {scheme!r}, which is no scheme",
            "a scheme is a store's word, two or more of letters, digits and +._-, as in sqlite:///runs.db",
        )
    password = _PASSWORD.match(text)
    if password and any(character in "/?#@" for character in password[2]):
        raise _invalid(text, "has one of / ? # @ in its password", "write them as %2F %3F %23 %40")
    rest, _, query = rest.partition("?")
    return scheme.lower(), rest, query


def _local_path(rest: str, text: str, scheme: str, base: Path) -> str:
    path = _decoded(rest.removeprefix("///"))
    if not path.strip("/"):
        raise _invalid(text, "names no file or folder", _path_forms(scheme))
    if path.startswith("//"):
        raise _invalid(text, "has more than four slashes", _path_forms(scheme, path))
    if "\0" in path:
        raise _invalid(text, "holds a NUL character", _path_forms(scheme))
    if path.startswith("~"):
        raise _invalid(text, "starts with ~, which only shells expand", f"write {scheme}:////home/…, the absolute path")
    if path == ":memory:":
        raise _invalid(text, "is the way of another library to say that nothing is kept", "write memory:")
    try:
        resolved = (base / path).resolve()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            resolved.lstat()  # since Python 3.13 only this raises where a symbolic link leads to itself
    except (OSError, RuntimeError) as error:
        raise _invalid(text, f"cannot be resolved: {error}", _path_forms(scheme)) from error
    return str(resolved)


def _parameters(query: str, text: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, equals, value = part.partition("=")
        name = _decoded(name)
        if not (name and equals):
            raise _invalid(
                text, f"has a parameter without name or value: {redact_url('?' + part)[1:]!r}", "write ?name=value&…"
            )
        if name in parameters:
            raise _invalid(text, f"has the parameter {name!r} twice", "keep one")
        parameters[name] = _decoded(value)
    return parameters


def _path_forms(scheme: str, written: str = "") -> str:
    path = written.strip("/")
    if not path or "@" in path:
        path = "folder/name"
    return f"write {scheme}:///{path} (relative to the working folder) or {scheme}:////{path} (absolute)"


def _decoded(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote  # 8 ms that most URLs do without

    return unquote(text)


def _invalid(text: str, flaw: str, hint: str) -> InvalidUrl:
    shown = redact_url(text)
    return InvalidUrl(f"the store URL {shown!r} {flaw}", hint=hint, url=shown)
