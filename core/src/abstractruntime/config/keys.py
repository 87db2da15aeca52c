"""What settings are called: dotted keys, the variables that set them, and the nearest to a misspelled one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..errors import UnknownSetting

PREFIX = "ABSTRACTRUNTIME_"
OPTIONS_PREFIX = f"{PREFIX}PLUGIN__"
FILE_NAME = "abstractruntime.toml"
DEFAULT = "default"


def variable_of(key: str) -> str:
    """``runtime.lease_s`` → ``ABSTRACTRUNTIME_RUNTIME__LEASE_S``."""
    return PREFIX + key.upper().replace(".", "__")


def key_of(variable: str) -> str:
    """``ABSTRACTRUNTIME_RUNTIME__LEASE_S`` → ``runtime.lease_s``."""
    return variable.removeprefix(PREFIX).lower().replace("__", ".")


def nearest_origin(key: str, origins: Mapping[str, str]) -> str:
    """Where ``key`` comes from: its own origin, else that of what it is part of, else that of one of its parts."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        found = origins.get(".".join(parts[:length]))
        if found is not None:
            return found
    return next((origin for known, origin in origins.items() if known.startswith(f"{key}.")), DEFAULT)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that was probably meant, None where none is near. Case does not count."""
    import difflib  # for messages only

    spellings = {spelling.lower().removeprefix(PREFIX.lower()): spelling for spelling in known}
    found = difflib.get_close_matches(name.lower().removeprefix(PREFIX.lower()), spellings, n=1)
    return spellings[found[0]] if found else None


def unknown_setting(name: str, known: Sequence[str], *, what: str = "setting", origin: str = "") -> UnknownSetting:
    """The error for a name that nobody knows, with the nearest of ``known``, or with all of them."""
    meant = nearest(name, known)
    return UnknownSetting(
        f"unknown {what} {name!r}" + (f" ({origin})" if origin else ""),
        hint=f"did you mean {meant}?" if meant else f"there are: {', '.join(known) or 'none'}",
        name=name,
        origin=origin or None,
    )
