"""SQLite store for AbstractRuntime: runs in one database file."""

from __future__ import annotations

from abstractruntime.hookspecs import hookimpl
from abstractruntime.store.contract import Store, StoreSpec, StoreUrl

abstractruntime_plugin_api = 1


@hookimpl
def abstractruntime_stores() -> list[StoreSpec]:
    """The store, under the scheme ``sqlite``."""
    return [
        StoreSpec(
            scheme="sqlite",
            open=_open,
            summary="one database file, for many threads and processes of one machine",
            options_model="abstractruntime_sqlite.options:SqliteOptions",
        )
    ]


def _open(url: StoreUrl, options: object) -> Store:
    from .store import open_sqlite

    return open_sqlite(url, options)
