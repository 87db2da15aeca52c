"""Effect handlers at hand, and how one is called."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping

from .effects import EffectOutcome, EffectSpec
from .errors import UsageError
from .requests import Perform, Performed
from .waits import BUILT_IN


class Handlers(Mapping[str, EffectSpec]):
    """Effect handlers by type: those given, then those of plugins, then the built-in ones.

    Plugins are asked when the first effect comes up that was not given: ``of_plugins(given)`` gets the types given.
    """

    def __init__(
        self,
        given: Mapping[str, EffectSpec],
        of_plugins: Callable[[Mapping[str, EffectSpec]], Mapping[str, EffectSpec]] | None = None,
    ) -> None:
        self._given = given
        self._lock = threading.RLock()
        self._of_plugins = of_plugins
        self._known: dict[str, EffectSpec] = {**BUILT_IN, **given} if of_plugins is None else dict(given)

    def _whole(self) -> dict[str, EffectSpec]:
        with self._lock:  # the runtime's threads may meet their first effects together
            if self._of_plugins is not None:
                self._known = {**BUILT_IN, **self._of_plugins(self._given), **self._given}
                self._of_plugins = None
        return self._known

    def __getitem__(self, effect_type: str) -> EffectSpec:
        return self._known[effect_type] if effect_type in self._known else self._whole()[effect_type]

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())


def perform(request: Perform) -> Performed:
    """Call a handler in this thread; what it raises is part of the answer. An ``async def`` handler gets a loop of its
    own."""
    hook = request.spec.reconcile if request.hook == "reconcile" else request.spec.handler
    try:
        if hook is None:  # a drive asks only for hooks that are there
            raise LookupError("this effect has no reconcile hook")
        returned: object = hook(request.run, request.effect, request.ctx)
        if not isinstance(returned, EffectOutcome) and inspect.iscoroutine(returned):
            import asyncio  # costs 12 ms, and most programs have no coroutine

            if _in_a_loop():
                returned.close()
                raise UsageError(
                    f"effect {request.effect.type!r} has an async handler, and this thread runs an event loop already",
                    hint="call tick in a thread of its own: await asyncio.to_thread(runtime.tick, …)",
                )
            returned = asyncio.run(returned)
        return Performed(returned=returned)
    except BaseException as error:  # noqa: BLE001  # Ctrl-C too: the drive records that the effect was interrupted, then raises it
        return Performed(raised=error)


def _in_a_loop() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
