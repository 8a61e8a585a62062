"""
A temporary PostgreSQL server, from the server programs installed on this machine. Standard library only.

For the system tests and the benchmarks.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any


def _value(value: Any) -> Any:
    r"""Convert a binary value, which arrives as ``\x`` and hexadecimal digits."""
    return bytes.fromhex(value[2:]) if isinstance(value, str) and value.startswith("\\x") else value


class Postgres:
    """
    A server that runs until the ``with`` block ends, and then leaves nothing behind.

    :param port: port of this machine to listen on.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        found = Postgres.programs()
        if found is None:
            sys.exit("This needs the programs of a PostgreSQL server. On Debian: apt install postgresql")
        self._bin = found
        self._user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root

    @staticmethod
    def programs() -> Path | None:
        """Return the folder of the server's programs; ``None`` if they are not installed."""
        found = [shutil.which("initdb"), *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")))]
        newest = next(filter(None, reversed(found)), None)
        return Path(newest).parent if newest else None

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._server.pid

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database."""
        return f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> None:
        """Create an empty database."""
        self._run("createdb", *self._server_options(), database)

    def query(self, database: str, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query. Each ``?`` stands for a value."""
        for value in values:
            quoted = str(value).replace("'", "''")
            sql = sql.replace("?", f"'{quoted}'", 1)
        command = f"select coalesce(json_agg(row_to_json(rows)), '[]') from ({sql}) rows"
        rows = self._run("psql", *self._server_options(), "--no-align", "--tuples-only", "-c", command, database)
        return [tuple(map(_value, row.values())) for row in json.loads(rows)]

    def execute(self, database: str, sql: str) -> None:
        """Run a statement that returns no rows."""
        self._run("psql", *self._server_options(), "--set", "ON_ERROR_STOP=1", "-c", sql, database)

    def dump(self, database: str) -> str:
        """Return the whole content of a database as text."""
        return self._run("pg_dump", *self._server_options(), "--data-only", database)

    def _server_options(self) -> list[str]:
        return ["--host", "127.0.0.1", "--port", str(self.port), "--username", "postgres"]

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [self._bin / program, *arguments],
            check=False,
            capture_output=True,
            text=True,
            user=self._user,
            cwd="/",
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stdout[-1000:]}{done.stderr[-1000:]}")
        return done.stdout

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        options = ["-p", str(self.port), "-k", str(self._folder), "-c", "max_connections=200"]
        self._server = subprocess.Popen(
            [self._bin / "postgres", "-D", self._folder / "data", "-h", "127.0.0.1", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self._user,
            cwd="/",
        )
        is_ready = [self._bin / "pg_isready", "--quiet", "--host", "127.0.0.1", "--port", str(self.port)]
        deadline = time.monotonic() + 30
        while subprocess.run(is_ready, check=False).returncode:
            if time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise RuntimeError("PostgreSQL did not start within 30 seconds.")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the server at once: it closes the connections that are open, and keeps the data."""
        self._server.send_signal(signal.SIGINT)
        try:
            self._server.wait(20)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()

    def __enter__(self) -> Postgres:
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        if self._user:
            shutil.chown(self._folder, self._user)
        self._run("initdb", "--auth", "trust", "--username", "postgres", "--pgdata", str(self._folder / "data"))
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
