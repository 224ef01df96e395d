"""The guarded store and transaction: each method of the real ones is guarded, or lacking on purpose."""

from __future__ import annotations

import inspect

import pytest

from fhir_server.access.store import GuardedStore, GuardedUnit
from fhir_server.storage.store import Store
from fhir_server.storage.unit import Unit

#: Beyond single resources: jobs and elevated operations call these on the unguarded store. In a guarded one they have
#: nothing to work on, and fail.
LACKING = {
    Store: {
        "given_up",
        "drop_unwanted",
        "erase",
        "erase_past",
        "explain",
        "forget",
        "get_judged",
        "get_where",
        "latest",
        "open",
        "pause_for",
        "rows",
        "set_entries",
    },
    Unit: {"past_many", "put_row", "remove_row"},
}


@pytest.mark.parametrize(("real", "guarded"), [(Store, GuardedStore), (Unit, GuardedUnit)])
def test_every_method_is_guarded_or_lacking(real: type, guarded: type) -> None:
    names = {
        name
        for name, member in vars(real).items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
    }
    assert names - set(vars(guarded)) == LACKING[real]


def test_a_guarded_store_has_no_way_to_the_database_of_its_own() -> None:
    """What it inherits, and does not guard, finds nothing to work on."""
    assert not {"_database", "_client"} & set(GuardedStore.__init__.__code__.co_names)
    assert not {"_database", "_session"} & set(GuardedUnit.__init__.__code__.co_names)
