"""Plugins: find → import → check → register → open. What a plugin may offer stands in `abstractruntime.hookspecs`.

pluggy registers; no hook is called while runs move. `discovery` reads entry points, `registration` makes of one of them
an `Offer` or a `PluginFailure`, `installation` remembers both, `host` answers what a runtime and the command line ask.
"""

from .discovery import PluginFailure
from .host import PluginHost, PluginObserver, open_store_by_url
from .installation import PluginInfo

__all__ = ["PluginFailure", "PluginHost", "PluginInfo", "PluginObserver", "open_store_by_url"]
