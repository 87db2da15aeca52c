"""Settings: what is in force, where each value comes from, and nothing that nobody knows.

Precedence: argument > environment ``ABSTRACTRUNTIME_*`` > ``abstractruntime.toml`` in the working folder (or
``[tool.abstractruntime]`` of ``pyproject.toml`` there) > default. An unknown key or variable is an error that names the
nearest known one. A plugin's options stand in ``[plugin.<word>]``, or in ``ABSTRACTRUNTIME_PLUGIN__<WORD>__<OPTION>``,
and are validated by the plugin's own model when the plugin is loaded.

Only here is pydantic imported, and only when there is something to validate: it costs more time than everything else
that a process does before its first step. What looks like a secret by its name is never shown.
"""

from .options import validate_options
from .redaction import hide_secrets
from .settings import PluginSettings, RuntimeSettings, SettingEntry, Settings
from .sources import load_settings

__all__ = [
    "PluginSettings",
    "RuntimeSettings",
    "SettingEntry",
    "Settings",
    "hide_secrets",
    "load_settings",
    "validate_options",
]
