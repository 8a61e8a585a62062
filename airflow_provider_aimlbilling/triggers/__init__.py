"""Triggers: a gate's wait without a worker, and the watcher behind an ``AssetWatcher``."""
