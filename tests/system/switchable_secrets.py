"""A secrets backend with one connection, which is away while a file exists."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.secrets.base_secrets import BaseSecretsBackend


class SwitchableBackend(BaseSecretsBackend):
    """Has the connection ``vault``."""

    def get_conn_value(self, conn_id: str, *_: object, **__: object) -> str | None:
        if conn_id != "vault":
            return None
        if Path(os.environ["SECRETS_ARE_AWAY_WHILE_THIS_EXISTS"]).exists():
            raise ConnectionError("the secrets backend is away")
        return os.environ["VAULT_CONNECTION"]

    def get_variable(self, key: str, *_: object, **__: object) -> None:
        return None

    def get_config(self, key: str, *_: object, **__: object) -> None:
        return None
