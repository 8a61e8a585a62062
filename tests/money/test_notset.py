"""The default value NOTSET."""

from __future__ import annotations

import copy
import pickle

from airflow_provider_aimlbilling.money.notset import NOTSET


def test_notset_survives_copying_and_pickling() -> None:
    for copied in (copy.copy(NOTSET), copy.deepcopy([NOTSET])[0], pickle.loads(pickle.dumps(NOTSET))):
        assert copied is NOTSET
