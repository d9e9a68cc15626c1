"""The database of the store: a SQLite file, or PostgreSQL. It is opened at first use, and again after an error."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cachetools import TTLCache
from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, make_url, select, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ls_backend.store.tables import SCHEMA_VERSION, Base, SchemaRow

logger = logging.getLogger(__name__)
FILE_NAME = "sessions.sqlite"
DRIVER = "postgresql+pg8000"
BUSY_TIMEOUT_S = 5.0
"""How long SQLite waits for another process that writes."""
SOCKET_TIMEOUT_S = 10.0
"""How long PostgreSQL may take to answer."""
RETRY_AFTER_S = 5.0
"""A database that could not be reached is not tried again for this long, so that not every request waits for it."""
_JOURNAL_BYTES = 2**20
_DAMAGED = ("not a database", "malformed", "no such table", "no such column")
"""What SQLite says of a file that it will never be able to read."""


class StoreError(Exception):
    """The store cannot be used now. Sessions then stay in memory."""


class StoreVersionError(StoreError):
    """The store was written by a newer version of the backend. Nothing in it was touched."""


def store_address(store_url: str, cache_dir: Path) -> URL:
    """Address of the store: ``IVOS_STORE_URL``, or a file in the cache folder if that is empty."""
    if not store_url:
        return URL.create("sqlite", database=str(cache_dir.expanduser().resolve() / FILE_NAME))
    url = make_url(store_url)
    return url.set(drivername=DRIVER) if url.drivername == "postgresql" else url


class Database:
    """Opens transactions. Thread-safe; ``reset_count`` is how often an empty file replaced a damaged one."""

    def __init__(self, address: URL) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._unreachable: TTLCache[str, bool] = TTLCache(maxsize=1, ttl=RETRY_AFTER_S)
        self.reset_count = 0

    @property
    def is_file(self) -> bool:
        """Whether this is a SQLite file."""
        return self._address.get_backend_name() == "sqlite"

    @property
    def name(self) -> str:
        """The address, without a password."""
        return self._address.render_as_string(hide_password=True)

    def open(self) -> None:
        """Open it now instead of at first use. A file that cannot be read is renamed.

        Raises:
            StoreVersionError: a newer version of the backend wrote it.
            StoreError: it cannot be reached or written.
        """
        with self._store_errors(), self._lock:
            self._open_engine()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction. In SQLite, a transaction that writes must start with a write.

        Raises:
            StoreVersionError: a newer version of the backend wrote it.
            StoreError: it cannot be used; a damaged file was renamed.
        """
        with self._store_errors():
            with self._lock:
                engine = self._open_engine()
            with engine.begin() as connection:
                yield connection

    @contextmanager
    def read_snapshot(self) -> Iterator[Connection]:
        """One transaction in which every query sees the same state; see `transaction`."""
        with self.transaction() as connection:
            if self.is_file:
                # The driver starts a transaction only before a write.
                connection.exec_driver_sql("BEGIN")
            yield connection

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._dispose()

    def used_bytes(self, connection: Connection) -> int | None:
        """Bytes of a SQLite file that hold rows; None for PostgreSQL, which frees the space of deleted rows later."""
        if not self.is_file:
            return None
        pages, free, page_bytes = (
            int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * page_bytes

    def shrink(self) -> None:
        """Give the space of deleted rows in a SQLite file back to the file system."""
        if self.is_file:
            with self.transaction() as connection:
                connection.exec_driver_sql("PRAGMA incremental_vacuum").close()

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        reset_count = self.reset_count
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            reason = _first_line(error)
            with self._lock:
                if self.is_file and _is_damaged(reason) and reset_count == self.reset_count:
                    self._rename_damaged_file(reason)
                elif not self.is_file:
                    self._unreachable[self.name] = True
            raise StoreError(f"{self.name}: {reason}") from error

    def _open_engine(self) -> Engine:
        if self.name in self._unreachable:
            raise StoreError(f"{self.name} could not be reached; it is tried again in {RETRY_AFTER_S:.0f} s at most")
        if self._engine is None:
            try:
                self._engine = self._new_engine()
            except (SQLAlchemyError, OSError) as error:
                reason = _first_line(error)
                if not self._is_unreadable(reason):
                    raise
                self._rename_damaged_file(reason)
                self._engine = self._new_engine()
        return self._engine

    def _new_engine(self) -> Engine:
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

    def _rename_damaged_file(self, reason: str) -> None:
        """Rename a file that cannot be read; the next use creates a new one. Only the latest damaged file is kept."""
        self._dispose()
        file = Path(str(self._address.database))
        renamed = file.with_name(f"{file.name}.damaged")
        try:
            for suffix in ("", "-wal", "-shm"):
                part = file.with_name(file.name + suffix)
                if part.exists():
                    part.replace(renamed.with_name(renamed.name + suffix))
        except OSError as error:
            raise StoreError(f"{file} cannot be read ({reason}) and cannot be renamed ({error})") from error
        self.reset_count += 1
        logger.error("%s cannot be read (%s). It was moved to %s, and a new one is created", file, reason, renamed)

    def _dispose(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None


def _prepare(engine: Engine, name: str) -> None:
    """Create the tables, or upgrade those of an earlier version, and check that they can be read.

    Raises:
        StoreVersionError: they have a later version.
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
    """Add the columns that are new since an earlier version; they are null in stored rows. May be repeated."""
    inspector = inspect(connection)
    for table in filter(lambda table: inspector.has_table(table.name), Base.metadata.sorted_tables):
        existing = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in existing and column.nullable:
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
    """The first line of the driver's message."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]
