"""Handlers that can be called by hand, too, as those of 0.2 could."""

from __future__ import annotations

import logging

from ..effects import EffectContext, EffectOutcome, EffectSpec
from ..models import Effect, Instant, RunState

log = logging.getLogger(__name__)


class CallableSpec(EffectSpec, frozen=True, kw_only=True):
    """An `EffectSpec` that is a handler of 0.2 as well: programs written for it wrap and call these handlers."""

    def __call__(self, run: RunState, effect: Effect, default_next_node: str | None = None) -> EffectOutcome:
        """Perform the effect outside of the engine, under a made-up key. What it raises is its failed outcome."""
        ctx = EffectContext(
            run_id=run.run_id,
            step=run.step,
            key=f"{run.run_id}:{run.step}",
            attempt=1,
            epoch=0,
            deadline=Instant(0),
            default_next_node=default_next_node,
        )
        try:
            return self.handler(run, effect, ctx)
        except Exception as error:
            log.warning("effect %r failed: %s", effect.type, error, exc_info=True)
            return EffectOutcome.failed(str(error))
