"""Find: the entry points of the group ``abstractruntime``, without importing what they name.

Distributions are read one by one: metadata that cannot be read costs its own plugin and no other.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from ..errors import AbstractRuntimeError, PluginConflict, PluginError
from ..hookspecs import PROJECT

if TYPE_CHECKING:
    from importlib_metadata import Distribution, EntryPoint

Stage = Literal["find", "import", "check", "register", "open"]


class PluginFailure(Struct, frozen=True, kw_only=True):
    """Why a plugin is not used. ``stage``: how far it came; ``error``: what was raised there."""

    plugin: str
    distribution: str
    version: str
    stage: Stage
    error: BaseException

    @property
    def reason(self) -> str:
        """The error in one line."""
        if isinstance(self.error, AbstractRuntimeError):
            return self.error.message
        text = " ".join(str(self.error).split())
        return f"{type(self.error).__name__}: {text}" if text else type(self.error).__name__

    @property
    def advice(self) -> str:
        """What to do about it."""
        own = self.error.hint if isinstance(self.error, AbstractRuntimeError) else None
        if own is not None:
            return own
        again = f"install it again (pip install --force-reinstall {self.distribution})" if self.stage != "open" else ""
        return f'{again or "see what it says"}, or do without it: plugins.disabled = ["{self.plugin}"]'

    @property
    def explanation(self) -> str:
        """Stage, error and advice, for one who knows which plugin is meant."""
        return f"failed at {self.stage}: {self.reason}. Hint: {self.advice}"

    def __str__(self) -> str:
        return f"plugin {self.plugin!r} ({self.distribution} {self.version}) failed at {self.stage}: {self.reason}"


class Candidate(Struct, frozen=True, kw_only=True):
    """An entry point and the distribution that declares it. ``word`` is the plugin's name and its URL scheme."""

    word: str
    distribution: str
    version: str
    entry_point: EntryPoint

    def failure(self, stage: Stage, error: BaseException) -> PluginFailure:
        """This plugin's failure."""
        return PluginFailure(
            plugin=self.word, distribution=self.distribution, version=self.version, stage=stage, error=error
        )


class Discovery(Struct, frozen=True, kw_only=True):
    """What is installed: by word, what may be imported; and what failed already, which nothing may be imported of."""

    candidates: dict[str, Candidate]
    failures: tuple[PluginFailure, ...]


def discover() -> Discovery:
    """Read the metadata of all installed distributions. Never raises for one of them."""
    # The backport reads metadata alike on every Python; it takes 12 ms to import, which only who needs plugins pays.
    from importlib_metadata import Distribution

    claims: defaultdict[str, list[Candidate]] = defaultdict(list)
    failures: list[PluginFailure] = []
    seen: set[str] = set()
    for distribution in Distribution.discover():
        for found in _claims_of(distribution):
            if isinstance(found, PluginFailure):
                failures.append(found)
            elif found.distribution not in seen:
                claims[found.word].append(found)
        seen |= {claim.distribution for claimed in claims.values() for claim in claimed}
    for word, claimed in claims.items():
        failures += _disputed(word, claimed) if len(claimed) > 1 else ()
    return Discovery(
        candidates={word: claimed[0] for word, claimed in claims.items() if len(claimed) == 1},
        failures=tuple(failures),
    )


def _claims_of(distribution: Distribution) -> Iterator[Candidate | PluginFailure]:
    word = name = version = "unknown"
    try:
        if PROJECT not in (distribution.read_text("entry_points.txt") or ""):
            return  # nearly all; the rest of their metadata is not even read
        fields = _identity(distribution)
        name, version = fields.get("Name", name), fields.get("Version", version)
        points = [point for point in distribution.entry_points if point.group == PROJECT]
        word = ", ".join(point.name for point in points) or word
        if len(fields) < 2:
            raise PluginError("it has no name or no version")
    except Exception as raised:  # noqa: BLE001  # whatever is made of damaged metadata, it costs this plugin only
        error = PluginError(
            f"its metadata in {distribution.locate_file('')} cannot be used: {type(raised).__name__}: {raised}",
            hint="remove what is left there, and install it again",
        )
        error.__cause__ = raised
        yield PluginFailure(plugin=word, distribution=name, version=version, stage="find", error=error)
        return
    for point in points:
        yield Candidate(word=point.name, distribution=name, version=version, entry_point=point)


def _identity(distribution: Distribution) -> dict[str, str]:
    """``Name``, in the one spelling of all that mean the same, and ``Version``, as far as they are there."""
    # Read by hand: for these two lines `distribution.metadata` imports and runs a mail parser, 11 of the 15 ms that
    # finding plugins would take.
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    head = text.partition("\n\n")[0]
    fields: dict[str, str] = dict(re.findall(r"^(Name|Version):[ \t]*(\S+)", head, re.MULTILINE))
    if "Name" in fields:
        fields["Name"] = re.sub(r"[-_.]+", "-", fields["Name"]).lower()
    return fields


def _disputed(word: str, claimed: Sequence[Candidate]) -> Iterator[PluginFailure]:
    """Each of the distributions that claim one word fails: which of them was meant cannot be known."""
    names = sorted({candidate.distribution for candidate in claimed})
    error = PluginConflict(
        f"the plugin word {word!r} is claimed more than once, by {' and '.join(names)}; none is used",
        hint=f"uninstall all but one, e.g. pip uninstall {names[-1]}",
        word=word,
        distributions=tuple(names),
    )
    for candidate in claimed:
        yield candidate.failure("find", error)
