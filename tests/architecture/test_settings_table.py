"""`docs/settings.md` is the code's table of settings, row by row."""

from __future__ import annotations

import re
from pathlib import Path

from fhir_server.cli.config import default_of
from fhir_server.secret_files import variable_of
from fhir_server.settings import Settings

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `(HEALTHSPHERE_\w+)` \| (.*?) \| (.*) \|$", re.MULTILINE)


def test_the_documented_table_of_settings_equals_the_code() -> None:
    documented = ROW.findall((ROOT / "docs" / "settings.md").read_text("utf-8"))
    in_code = [
        (variable_of(name), default_of(name), field.description) for name, field in Settings.model_fields.items()
    ]
    assert sorted(documented) == sorted(in_code)


def test_every_setting_is_read_somewhere() -> None:
    places = [path for name in ("fhir_server", "integrations") for path in (ROOT / name).rglob("*.py")]
    sources = [path.read_text("utf-8") for path in places if path.name != "settings.py"]
    unread = [
        name for name in Settings.model_fields if not any(re.search(rf"settings\.{name}\b", text) for text in sources)
    ]
    assert unread == []
