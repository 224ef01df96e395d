"""Who runs the server, as apps show it to people: from the settings."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from fhir_server.settings import Settings
from fhir_server.storage.setup import SetupError
from smart_auth.brands import CATEGORIES, Brand


def brand_of(settings: Settings) -> Brand:
    """The brand: the members of the file, and for what it leaves out the name and the website of the settings.

    Raises:
        SetupError: the file cannot be read, or holds something else.
    """
    path, said = settings.brand_file, {}
    if path != Path():
        try:
            said = json.loads(path.read_text("utf-8"))
            unknown = sorted(said.keys() - set(Brand.__dataclass_fields__))
            if unknown:
                raise ValueError(f"it has no member {unknown[0]}")
        except (OSError, ValueError, AttributeError) as error:
            raise _unusable(path, error) from error
    try:
        brand = msgspec.convert({"name": settings.brand_name, "website": settings.brand_website, **said}, Brand)
    except msgspec.ValidationError as error:
        raise _unusable(path, error) from error
    if set(brand.categories) - set(CATEGORIES):
        raise SetupError(f"The categories of a brand are some of {', '.join(CATEGORIES)}: correct {path}.")
    return brand


def _unusable(path: Path, error: Exception) -> SetupError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return SetupError(f"The file of the brand {path} cannot be used ({reason}): correct it.")
