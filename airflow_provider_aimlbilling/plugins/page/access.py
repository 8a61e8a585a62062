"""
Who may see what on the billing page: Airflow's own auth manager decides.

An application that a plugin mounts is open to everyone. So :mod:`.app` asks for :data:`MAY_SEE_PAGE` with every route,
and each route asks here before it shows a connection or a DAG.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import (
    AccessView,
    ConnectionDetails,
    DagAccessEntity,
    DagDetails,
)
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_connection, requires_access_view
from airflow.configuration import conf
from airflow.models.connection import Connection
from airflow.models.dag import DagModel
from fastapi import Depends

# The user of a request, as the type of a route's parameter.
CurrentUser = GetUserDep
# The dependency of the whole application: users who may see plugins may see the page.
MAY_SEE_PAGE = Depends(requires_access_view(AccessView.PLUGINS))
# The dependency of a route with the path parameter ``connection_id``, which Airflow looks up by this name.
MAY_READ_CONNECTION = Depends(requires_access_connection("GET"))

# What a user must be allowed to read of a DAG to see its gates, the tasks that they held, and what its runs cost.
DAG_ENTITIES = (DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM)


def readable_connection_ids(user: BaseUser, connection_ids: Iterable[str]) -> set[str]:
    """
    Return those of some connections that a user may read.

    :param user: the user.
    :param connection_ids: ids of connections. They need not be in Airflow's database.
    """
    manager, teams = get_auth_manager(), _has_teams()

    def is_readable(connection_id: str) -> bool:
        team = Connection.get_team_name(connection_id) if teams else None
        details = ConnectionDetails(conn_id=connection_id, team_name=team)
        return bool(manager.is_authorized_connection(method="GET", details=details, user=user))

    return {connection_id for connection_id in set(connection_ids) if is_readable(connection_id)}


def readable_dag_ids(
    user: BaseUser, dag_ids: Iterable[str], entities: Sequence[DagAccessEntity] = DAG_ENTITIES
) -> set[str]:
    """
    Return those of some DAGs of which a user may read task instances and XComs.

    Each DAG is one or two questions to the auth manager, so pass only those that have something to show.

    :param user: the user.
    :param dag_ids: ids of DAGs.
    :param entities: what the user must be allowed to read of a DAG.
    """
    manager, teams = get_auth_manager(), _has_teams()

    def is_readable(dag_id: str) -> bool:
        details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id) if teams else None)
        return all(
            manager.is_authorized_dag(method="GET", access_entity=entity, details=details, user=user)
            for entity in entities
        )

    return {dag_id for dag_id in set(dag_ids) if is_readable(dag_id)}


def _has_teams() -> bool:
    return bool(conf.getboolean("core", "multi_team", fallback=False))
