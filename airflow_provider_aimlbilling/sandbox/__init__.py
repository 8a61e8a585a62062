"""A local billing API to run DAGs against, without a key and without money."""

from airflow_provider_aimlbilling.sandbox.server import Fault, Sandbox

__all__ = ["Fault", "Sandbox"]
