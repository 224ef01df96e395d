"""What the tests of validation share: one validator, small valid resources, and the folder with real ones."""

import os
from pathlib import Path

import pytest

from fhir_server.model.codec import Json, decode
from fhir_server.validation import Validator
from profiles.registry import registry
from profiles.terminology import terminology


@pytest.fixture(scope="session")
def validator() -> Validator:
    return Validator(registry(), terminology())


@pytest.fixture
def samples() -> dict[str, Json]:
    """A fresh copy of one small valid resource per type."""
    return decode((Path(__file__).parent / "samples.json").read_bytes())


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The unpacked archives of test data, side by side: r4-examples, synthea-blaze."""
    name = os.environ.get("HEALTHSPHERE_TEST_DATA")
    if not name:
        pytest.skip("HEALTHSPHERE_TEST_DATA names no folder with the unpacked test data")
    return Path(name)
