"""A temporary PostgreSQL server for one benchmark run, from the server programs installed on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType


class Postgres:
    """
    A server that runs until the ``with`` block ends, and then leaves nothing behind.

    :param port: port of this machine to listen on.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        found = [shutil.which("initdb"), *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")))]
        if not any(found):
            sys.exit("This theme needs the programs of a PostgreSQL server. On Debian: apt install postgresql")
        self._bin = Path(next(filter(None, reversed(found)))).parent
        self._user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._server.pid

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database."""
        return f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> None:
        """Create an empty database."""
        self._run("createdb", "--host", "127.0.0.1", "--port", str(self.port), "--username", "postgres", database)

    def _run(self, program: str, *arguments: str) -> None:
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

    def __enter__(self) -> Postgres:
        self._folder = Path(tempfile.mkdtemp(prefix="bench-postgres-"))
        if self._user:
            shutil.chown(self._folder, self._user)
        data = self._folder / "data"
        self._run("initdb", "--auth", "trust", "--username", "postgres", "--pgdata", str(data))
        options = ["-p", str(self.port), "-k", str(self._folder), "-c", "max_connections=200"]
        self._server = subprocess.Popen(
            [self._bin / "postgres", "-D", data, "-h", "127.0.0.1", *options],
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
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.terminate()
        try:
            self._server.wait(20)
        except subprocess.TimeoutExpired:
            self._server.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
