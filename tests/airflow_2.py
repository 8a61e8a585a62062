"""
The names of ``airflow.sdk`` that docs, examples and tests use, from where Airflow 2.11 keeps them.

On Airflow 2.11 the tests replace ``from airflow.sdk import`` by ``from airflow_2 import`` in every DAG file they run.
"""

from __future__ import annotations

from airflow.datasets import Dataset as Asset
from airflow.decorators import task, task_group
from airflow.models import Connection, Variable
from airflow.models.baseoperator import BaseOperator, chain
from airflow.models.dag import DAG, dag
from airflow.models.param import Param
from airflow.notifications.basenotifier import BaseNotifier
from airflow.operators.python import get_current_context
from airflow.sensors.base import BaseSensorOperator
from airflow.utils.context import Context
from airflow.utils.task_group import TaskGroup

__all__ = [
    "DAG",
    "Asset",
    "BaseNotifier",
    "BaseOperator",
    "BaseSensorOperator",
    "Connection",
    "Context",
    "Param",
    "TaskGroup",
    "Variable",
    "chain",
    "dag",
    "get_current_context",
    "task",
    "task_group",
]
