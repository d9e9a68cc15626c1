"""The database behind the store: SQLite in a file, or PostgreSQL; opened when first used, and again after trouble."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, make_url, select, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ls_backend.store.tables import SCHEMA_VERSION, Base, SchemaRow

logger = logging.getLogger(__name__)
FILE_NAME = "sessions.sqlite"
DRIVER = "postgresql+pg8000"
BUSY_TIMEOUT_S = 5.0
"""How long SQLite waits for another process that writes."""
SOCKET_TIMEOUT_S = 10.0
"""How long PostgreSQL may be silent."""
REST_S = 5.0
"""So long is a database left alone that could not be reached: requests must not wait for it one after the other."""
_JOURNAL_BYTES = 2**20
_DAMAGED = ("not a database", "malformed", "no such table", "no such column")
"""What SQLite says of a file that it will not read later either."""


class StoreError(Exception):
    """The store cannot be used now. Work goes on without it."""


class StoreVersionError(StoreError):
    """The store was written by a newer version of the backend. Nothing in it was touched."""


def store_address(store_url: str, cache_dir: Path) -> URL:
    """Where sessions are kept: what ``IVOS_STORE_URL`` says, or a file below the cache."""
    if not store_url:
        return URL.create("sqlite", database=str(cache_dir.expanduser().resolve() / FILE_NAME))
    url = make_url(store_url)
    return url.set(drivername=DRIVER) if url.drivername == "postgresql" else url


class Database:
    """Hands out transactions. Thread-safe; ``reset_count`` is how often an empty file replaced a damaged one."""

    def __init__(self, address: URL) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._rests_until_s = 0.0
        self.reset_count = 0

    @property
    def is_file(self) -> bool:
        """Whether it is SQLite."""
        return self._address.get_backend_name() == "sqlite"

    @property
    def name(self) -> str:
        """The address, without a password."""
        return self._address.render_as_string(hide_password=True)

    def open(self) -> None:
        """Open it now, rather than when it is first used. A file that cannot be read is moved aside.

        Raises:
            StoreVersionError: a newer version of the backend wrote it.
            StoreError: it cannot be reached or written.
        """
        with self._translated(), self._lock:
            self._opened()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction. In SQLite, one that writes must begin with writing.

        Raises:
            StoreVersionError: a newer version of the backend wrote it.
            StoreError: it cannot be used; a file that turned out to be damaged was moved aside.
        """
        with self._translated():
            with self._lock:
                engine = self._opened()
            with engine.begin() as connection:
                yield connection

    @contextmanager
    def read_snapshot(self) -> Iterator[Connection]:
        """One transaction in which every query sees the same state; see `transaction`."""
        with self.transaction() as connection:
            if self.is_file:
                # The driver begins transactions only before writing.
                connection.exec_driver_sql("BEGIN")
            yield connection

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._dispose()

    def used_bytes(self, connection: Connection) -> int | None:
        """How much of a SQLite file holds rows; None for PostgreSQL, where it shows only after its own cleaning."""
        if not self.is_file:
            return None
        pages, free, page_bytes = (
            int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * page_bytes

    def shrink(self) -> None:
        """Give what deleted rows left behind in a SQLite file back to the file system."""
        if self.is_file:
            with self.transaction() as connection:
                connection.exec_driver_sql("PRAGMA incremental_vacuum").close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        reset_count = self.reset_count
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            reason = _first_line(error)
            with self._lock:
                if self.is_file and _is_damaged(reason) and reset_count == self.reset_count:
                    self._move_damaged_file_aside(reason)
                elif not self.is_file:
                    self._rests_until_s = time.monotonic() + REST_S
            raise StoreError(f"{self.name}: {reason}") from error

    def _opened(self) -> Engine:
        rest_s = self._rests_until_s - time.monotonic()
        if rest_s > 0:
            raise StoreError(f"{self.name} could not be reached; it is tried again in {rest_s:.0f} s")
        if self._engine is None:
            try:
                self._engine = self._made()
            except (SQLAlchemyError, OSError) as error:
                reason = _first_line(error)
                if not self._is_unreadable(reason):
                    raise
                self._move_damaged_file_aside(reason)
                self._engine = self._made()
        return self._engine

    def _made(self) -> Engine:
        if self.is_file and self._address.database:
            Path(self._address.database).parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(self._address, connect_args={"timeout": BUSY_TIMEOUT_S})
            event.listen(engine, "connect", _set_up_sqlite)
        else:
            engine = create_engine(
                self._address,
                connect_args={"timeout": SOCKET_TIMEOUT_S},
                pool_pre_ping=True,
                isolation_level="REPEATABLE READ",
            )
        try:
            _prepare(engine, self.name)
        except BaseException:
            engine.dispose()
            raise
        return engine

    def _is_unreadable(self, reason: str) -> bool:
        file = Path(str(self._address.database))
        usable = not file.exists() or (file.is_file() and os.access(file, os.R_OK | os.W_OK))
        return self.is_file and (_is_damaged(reason) or not usable)

    def _move_damaged_file_aside(self, reason: str) -> None:
        """Move a file aside that cannot be read; the next use makes a new one. Only the latest such file is kept."""
        self._dispose()
        file = Path(str(self._address.database))
        aside = file.with_name(f"{file.name}.damaged")
        try:
            for suffix in ("", "-wal", "-shm"):
                part = file.with_name(file.name + suffix)
                if part.exists():
                    part.replace(aside.with_name(aside.name + suffix))
        except OSError as error:
            raise StoreError(f"{file} cannot be read ({reason}) nor moved aside ({error})") from error
        self.reset_count += 1
        logger.error("%s cannot be read (%s). It was moved to %s; a new one is begun", file, reason, aside)

    def _dispose(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None


def _prepare(engine: Engine, name: str) -> None:
    """Make the tables, or bring those of an earlier version up to date, and check that they can be read.

    Raises:
        StoreVersionError: they are of a later version.
    """
    with engine.begin() as connection:
        version = None
        if inspect(connection).has_table(SchemaRow.__tablename__):
            version = connection.scalar(select(SchemaRow.version))
        if version is not None and version > SCHEMA_VERSION:
            raise StoreVersionError(
                f"the session store {name} has version {version}, but this backend knows versions up to "
                f"{SCHEMA_VERSION}: it was written by a newer backend. Run that one, or set IVOS_STORE_URL to another "
                "database"
            )
        if version is None:
            Base.metadata.create_all(connection)
            connection.execute(insert(SchemaRow).values(version=SCHEMA_VERSION))
        elif version < SCHEMA_VERSION:
            _upgrade(connection)
        for table in Base.metadata.sorted_tables:
            connection.execute(select(table).limit(1)).close()


def _upgrade(connection: Connection) -> None:
    """Add the columns that came since an earlier version; they are empty in what is stored. May be repeated."""
    inspector = inspect(connection)
    for table in filter(lambda table: inspector.has_table(table.name), Base.metadata.sorted_tables):
        there = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there and column.nullable:
                kind = column.type.compile(connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}")
    connection.execute(update(SchemaRow).values(version=SCHEMA_VERSION))


def _is_damaged(reason: str) -> bool:
    return any(sign in reason for sign in _DAMAGED)


def _set_up_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in (
        "auto_vacuum = INCREMENTAL",
        "journal_mode = WAL",
        # With WAL, a power cut may lose the last transactions, but damages nothing.
        "synchronous = NORMAL",
        f"journal_size_limit = {_JOURNAL_BYTES}",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _first_line(error: Exception) -> str:
    """The driver's own words."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]
