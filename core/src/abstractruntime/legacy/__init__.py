"""What programs written for 0.2 use: its module paths, its in-memory stores, its ledger chain, its pair of stores.

`table` maps the old module paths; `records`, `stores` and `chain` are the old names themselves; `adapter` makes one
store of a pair.
"""

from ..errors import PluginMissing


class NameMissing(PluginMissing, ImportError):
    """A public name whose plugin is not installed."""
