"""The databases that sessions can be stored in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ls_backend.store.database import Database, store_address
from tests.ls_backend.postgres_server import empty


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of either kind."""
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    address = store_address(url, tmp_path)
    if url:
        empty(address)
    database = Database(address)
    yield database
    database.close()
