"""Links from a task to pages outside Airflow."""
