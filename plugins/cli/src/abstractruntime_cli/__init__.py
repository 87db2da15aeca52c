"""Command line of AbstractRuntime: `abstractruntime`, short `art`."""

abstractruntime_plugin_api = 1
