"""The connections of type ``aimlbilling`` that can be listed."""

from __future__ import annotations

import os

from airflow.models.connection import Connection
from airflow.secrets.environment_variables import CONN_ENV_PREFIX, EnvironmentVariablesBackend
from airflow.utils.session import create_session
from sqlalchemy import select

from airflow_provider_aimlbilling.client.text import clean_text
from airflow_provider_aimlbilling.get_provider_info import CONNECTION_TYPE


def listed_connections() -> dict[str, str | None]:
    """
    Return the connections of Airflow's database and of this process's environment, as descriptions by id.

    Airflow cannot list the connections of a secrets backend.
    """
    with create_session() as session:
        query = select(Connection.conn_id, Connection.description).where(Connection.conn_type == CONNECTION_TYPE)
        found: dict[str, str | None] = {row.conn_id: row.description for row in session.execute(query)}
    # Airflow prefers the environment, where the same id may stand for a connection of another type.
    environment = EnvironmentVariablesBackend()
    for name in os.environ:
        if name.startswith(CONN_ENV_PREFIX):
            conn_id = name.removeprefix(CONN_ENV_PREFIX).lower()
            try:
                connection = environment.get_connection(conn_id)
            except Exception:  # noqa: BLE001, S112 - one invalid variable must not hide the other connections
                continue
            if connection is not None and connection.conn_type == CONNECTION_TYPE:
                found[conn_id] = connection.description
            else:
                found.pop(conn_id, None)
    return {
        conn_id: clean_text(description) if description else None
        for conn_id, description in found.items()
        if conn_id.isprintable()  # a variable's name may hold bytes that are no text
    }
