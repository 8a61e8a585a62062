"""
A distributed Airflow on this machine: Celery with Redis, PostgreSQL, two workers and two triggerers.

For ``make test-distributed`` and ``make soak``; standard library only. Do not run Airflow like this for anything else.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from deployment import PASSWORD, USER, Deployment, _free_port
from postgres import Postgres


class Redis:
    """
    A temporary Redis server. It keeps its data over a restart, as the broker of a production deployment does.

    :param port: port of this machine to listen on.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"

    @staticmethod
    def program() -> str | None:
        """Return the path of the server's program; ``None`` if it is not installed."""
        return shutil.which("redis-server")

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--appendonly", "yes", "--save", ""]
        self._server = subprocess.Popen(
            [str(Redis.program()), *options, "--dir", self._folder], stdout=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if time.monotonic() > deadline:
                raise RuntimeError("Redis did not start within 30 seconds.")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the server."""
        self._server.terminate()
        self._server.wait(20)

    def __enter__(self) -> Redis:
        self._folder = tempfile.mkdtemp(prefix="redis-")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


class Cluster(Deployment):
    """
    A :class:`Deployment` whose services run apart and can be killed, stopped and started one by one.

    :param home: folder for everything that it writes; emptied first.
    :param python: interpreter of the environment to run.
    :param dags: the DAGs folder.
    :param env: further environment variables, such as connections.
    :param postgres: the database server.
    :param redis: the broker.
    """

    WORKERS = ("worker-1", "worker-2")
    TRIGGERERS = ("triggerer-1", "triggerer-2")

    def __init__(
        self, home: Path, python: Path, dags: Path, env: Mapping[str, str], postgres: Postgres, redis: Redis
    ) -> None:
        self.postgres, self.redis = postgres, redis
        database = postgres.url("airflow")
        settings = {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__PARALLELISM": "16",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
            "AIRFLOW__CELERY__BROKER_URL": redis.url,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database.replace('+psycopg2', '')}",
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": "4",
            # So that lost services are noticed within a test. The defaults take minutes.
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            # Otherwise the first of two triggerers takes all triggers.
            "AIRFLOW__TRIGGERER__MAX_TRIGGER_TO_SELECT_PER_LOOP": "5",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
        }
        super().__init__(home, python, dags, settings | dict(env))
        self._jobs: dict[str, int] = {}  # of the triggerers

    def __enter__(self) -> Cluster:
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        (self.home / "passwords.json").write_text(json.dumps({USER: PASSWORD}))
        self.run("db", "migrate")
        try:
            for service in ("scheduler", "dag-processor", "api-server", *self.TRIGGERERS, *self.WORKERS):
                self.start(service)
            self.wait_for("the services to start", self._healthy, seconds=180)
            self.wait_for("the workers to start", self._workers_ready, seconds=120)
        except BaseException:
            self._stop()
            raise
        return self

    def start(self, service: str) -> None:
        """Start a service, such as ``worker-1``."""
        kind = service.partition("-")[0] if service[-1].isdigit() else service
        arguments = {
            "api-server": ["api-server", "--port", str(self.port)],
            "worker": ["celery", "worker", "--celery-hostname", f"{service}@localhost", "--skip-serve-logs"],
        }.get(kind, [kind])
        log = (self.home / f"{service}.log").open("ab")
        # Each triggerer and worker serves its logs on a port of its own.
        env = {
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(_free_port()),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(_free_port()),
        }
        self._processes[service] = subprocess.Popen(
            [self.airflow, *arguments],
            env=self.env | env,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        if kind == "triggerer":
            # One after another, to know which job is whose.
            newest = "select coalesce(max(id), 0) as id from job where job_type = 'TriggererJob'"
            known = max(self._jobs.values(), default=0)
            self.wait_for(f"{service} to start", lambda: self.query(newest)[0][0] > known, seconds=120)
            self._jobs[service] = self.query(newest)[0][0]

    def triggers(self, service: str, run: str) -> int:
        """Return how many triggers of a run a triggerer has."""
        query = (
            "select count(*) as n from trigger join task_instance on trigger.id = task_instance.trigger_id "
            "where triggerer_id = ? and run_id = ?"
        )
        return int(self.query(query, self._jobs[service], run)[0][0])

    def spread_triggers(self, run: str) -> None:
        """Give each triggerer half of the triggers of a run. Airflow leaves them where they first came to."""
        first, second = (self._jobs[name] for name in self.TRIGGERERS)
        self.postgres.execute(
            "airflow",
            f"update trigger set triggerer_id = case when id % 2 = 0 then {first} else {second} end "
            f"where id in (select trigger_id from task_instance where run_id = '{run}')",
        )

    def serves(self) -> bool:
        """Return whether the API server answers."""
        return self.get("/api/v2/version") is not None

    def kill(self, service: str) -> None:
        """Kill a service and all its processes without a warning, as a machine that is lost."""
        process = self._processes[service]
        for pid in _session(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def stop(self, service: str) -> None:
        """Stop a service as a deployment does."""
        self._stop(service, grace=20)

    def revive(self) -> list[str]:
        """Start the services again that have ended, as a supervisor does. Return their names."""
        ended = [name for name, process in self._processes.items() if process.poll() is not None]
        for name in ended:
            self.start(name)
        return ended

    def wait_and_revive(self, what: str, done: Callable[[], Any], seconds: float) -> None:
        """Wait as :meth:`wait_for` does. Services that end meanwhile, some time after a fault, are revived."""

        def done_by_now() -> Any:
            self.revive()
            return done()

        self.wait_for(what, done_by_now, seconds)

    def patch_connection(self, conn_id: str, fields: Mapping[str, object]) -> None:
        """Change a connection in the database."""
        body = {"connection_id": conn_id, **fields}
        self._post(f"/api/v2/connections/{conn_id}", body, {"Authorization": f"Bearer {self.token()}"}, "PATCH")

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Query the database."""
        return self.postgres.query("airflow", sql, *values)

    def _workers_ready(self) -> bool:
        return all("ready." in (self.home / f"{name}.log").read_text(errors="replace") for name in self.WORKERS)

    def _healthy(self) -> bool:
        triggerers = self.query("select count(*) as n from job where job_type = 'TriggererJob' and state = 'running'")
        return super()._healthy() and triggerers[0][0] >= len(self.TRIGGERERS)


def _session(leader: int) -> list[int]:
    """Return the processes of a session; tasks have process groups of their own."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader:
                found.append(int(stat.parent.name))
    return found
