"""
A real Airflow on this machine: database, scheduler, API server, DAG processor and triggerer. Standard library only.

For the demo, ``make ui``, the benchmarks and the system tests. Do not run Airflow like this for anything else.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

USER = PASSWORD = "admin"


class Deployment:
    """
    A separate Airflow that runs while its ``with`` block does.

    :param home: folder for everything that it writes; emptied first.
    :param python: interpreter of the environment to run.
    :param dags: the DAGs folder.
    :param env: further environment variables, such as connections.
    :param port: port of the API server; 0 chooses a free one.
    """

    POLL_INTERVAL = 0.2  # seconds between two checks of wait_for
    STOP_GRACE = 3.0  # seconds between SIGTERM and SIGKILL; triggerers of Airflow 3 would take more than ten

    def __init__(
        self, home: Path, python: Path, dags: Path, env: Mapping[str, str] | None = None, port: int = 0
    ) -> None:
        self.home, self.port = home, port or _free_port()
        self.airflow = python.with_name("airflow")
        self.version = _run([python, "-c", "from importlib.metadata import version as v; print(v('apache-airflow'))"])
        self.url = f"http://127.0.0.1:{self.port}"
        self.old = self.version.startswith("2.")
        # Airflow 2 runs tasks with the "airflow" command that is first on the path.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}
        path = {"PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
        self.env = inherited | path | self._settings(home, dags) | dict(env or {})
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def _settings(self, home: Path, dags: Path) -> dict[str, str]:
        settings = {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            # On SQLite, Airflow 2 can only run one task at a time.
            "AIRFLOW__CORE__EXECUTOR": "SequentialExecutor" if self.old else "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__FERNET_KEY": "c2FuZGJveC1zYW5kYm94LXNhbmRib3gtc2FuZGJveC0=",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
            # With the default ports, two deployments could not run at the same time.
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(_free_port()),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(_free_port()),
            "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "5",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }
        if not self.old:
            settings |= {
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
                "AIRFLOW__API__PORT": str(self.port),
                "AIRFLOW__API__HOST": "127.0.0.1",
                # With more, a busy machine starts them so slowly that the server believes they died and restarts them.
                "AIRFLOW__API__WORKERS": "1",
                # On a busy machine, the API server takes longer than the default of five seconds, and the task is lost.
                "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
                "AIRFLOW__API__SECRET_KEY": "shared by all processes of this deployment",
                "AIRFLOW__API_AUTH__JWT_SECRET": "shared by all processes of this deployment, and long enough to sign",
            }
        return settings

    def __enter__(self) -> Deployment:
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        (self.home / "passwords.json").write_text(json.dumps({USER: PASSWORD}))
        self.run("db", "migrate")
        services = [["scheduler"], ["triggerer"]]
        services += [] if self.old else [["dag-processor"], ["api-server", "--port", str(self.port)]]
        try:
            for service in services:
                self._start(*service)
            self.wait_for("the services to start", self._healthy, seconds=120)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _start(self, name: str, *arguments: str) -> None:
        log = (self.home / f"{name}.log").open("ab")
        self._processes[name] = subprocess.Popen(
            [self.airflow, name, *arguments],
            env=self.env,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _stop(self, *names: str, grace: float = STOP_GRACE) -> None:
        processes = [self._processes[name] for name in names or self._processes]
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + grace
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def restart(self, name: str) -> None:
        """
        Stop a service and start it again. It gets time to tell Airflow that it ends.

        :param name: the service, such as ``triggerer``.
        """
        self._stop(name, grace=30)
        self._start(name)

    def run(self, *arguments: str) -> str:
        """Run an ``airflow`` command in this deployment and return its output."""
        return _run([self.airflow, *arguments], env=self.env)

    def _healthy(self) -> bool:
        for process in self._processes.values():
            if process.poll() is not None:
                raise RuntimeError(f"A service ended with exit code {process.returncode}; see {self.home}/*.log")
        kinds = {"SchedulerJob", "TriggererJob"} | (set() if self.old else {"DagProcessorJob"})
        rows = self.query("select job_type from job where state = 'running' and latest_heartbeat is not null")
        return kinds <= {row[0] for row in rows} and (self.old or self.get("/api/v2/version") is not None)

    def wait_for(self, what: str, done: Callable[[], Any], seconds: float) -> Any:
        """
        Wait until ``done()`` returns something true, and return it.

        :param what: what is waited for, for the error.
        :param done: called until its result is true.
        :param seconds: how long to wait.
        :raises TimeoutError: the time is up.
        """
        deadline = time.monotonic() + seconds
        while not (result := done()):
            if time.monotonic() > deadline:
                found = self.query("select run_id, task_id, map_index, state, try_number from task_instance")
                raise TimeoutError(f"Waited {seconds:g} s for {what}; see {self.home}/*.log. Task instances: {found}")
            time.sleep(self.POLL_INTERVAL)
        return result

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Query the database: faster than the command line, and the same on all versions."""
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self.home}/airflow.db?mode=ro", uri=True)) as database:
                return database.execute(sql, values).fetchall()
        except sqlite3.OperationalError:  # locked for a moment
            return []

    def trigger(self, dag_id: str, conf: Mapping[str, object] | None = None) -> str:
        """Start a run of a DAG as soon as the DAG is parsed, and return the run's id."""
        self.wait_for(
            f"the DAG {dag_id} to be parsed",
            lambda: self.query("select 1 from serialized_dag where dag_id = ?", dag_id),
            seconds=90,
        )
        run_id = f"run_{time.time_ns()}"
        if self.old:
            self.run("dags", "trigger", dag_id, "--run-id", run_id, "--conf", json.dumps(conf or {}))
        else:
            run = {"dag_run_id": run_id, "logical_date": None, "conf": conf or {}}
            self.post(f"/api/v2/dags/{dag_id}/dagRuns", run)
        return run_id

    def add_connection(self, conn_id: str, connection: str) -> None:
        """
        Store a connection in the database.

        :param conn_id: its id.
        :param connection: the connection as JSON, as in an environment variable.
        """
        fields = json.loads(connection)
        if self.old:
            # From a file: "connections add" would leave the key in Airflow's audit log, which holds the command line.
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                file.write(json.dumps({conn_id: fields}))
                file.flush()
                self.run("connections", "import", file.name)
            return
        if "extra" in fields and not isinstance(fields["extra"], str):
            fields["extra"] = json.dumps(fields["extra"])
        self.post("/api/v2/connections", {"connection_id": conn_id, **fields})

    def states(self, run_id: str) -> dict[str, str]:
        """Return the state of each task of a run."""
        return dict(self.query("select task_id, state from task_instance where run_id = ?", run_id))

    def xcom(self, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """Read an XCom from the database."""
        rows = self.query("select value from xcom where run_id = ? and task_id = ? and key = ?", run_id, task_id, key)
        value: Any = rows[0][0] if rows else "null"
        for _ in range(3):  # older versions wrap the JSON in JSON
            if isinstance(value, str | bytes):
                value = json.loads(value)
        return value

    def get(self, path: str, token: str | None = None) -> Any:
        """Send a GET request to the REST API; ``None`` if the server does not respond."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {token}"} if token else {})
        return _send(request)

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        """Send a POST request to the REST API, as an administrator."""
        return self._post(path, body, {"Authorization": f"Bearer {self.token()}"})

    def token(self) -> str:
        """Log in to the REST API and return a token."""
        return str(self._post("/auth/token", {"username": USER, "password": PASSWORD}, {})["access_token"])

    def _post(self, path: str, body: Mapping[str, object], headers: Mapping[str, str], method: str = "POST") -> Any:
        headers = {"Content-Type": "application/json", **headers}
        response = _send(urllib.request.Request(self.url + path, json.dumps(body).encode(), headers, method=method))
        if response is None:
            raise RuntimeError(f"{self.url}{path} did not respond; see {self.home}/api-server.log")
        return response


def _send(request: urllib.request.Request) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{request.full_url} returned {error.code}: {error.read()[:300]!r}") from None
    except OSError:
        return None


def _run(command: list[Any], env: Mapping[str, str] | None = None) -> str:
    finished = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    if finished.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{finished.stdout[-2000:]}{finished.stderr[-4000:]}")
    return finished.stdout.strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
