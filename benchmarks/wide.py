"""Searches that reach over several resources, for the scenarios: chains, `_has`, includes, `$everything`, words."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

from benchmarks.target import Target

Json = dict[str, Any]
Check = Callable[[int, Json], str | None]

#: The page that `deep page` asks for, of 50 matches each.
DEEP = 100


class Paths:
    """The addresses of each scenario, from what is loaded, and what an answer to them must hold."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def chained(self) -> list[str]:
        return [
            f"/Observation?subject:Patient.name={quote(name)}&code={quote(code, safe='')}&_count=10"
            for name, code in zip(self._names(), self._codes() * 10, strict=False)
        ]

    def has(self) -> list[str]:
        rows = self._rows("Condition", 200)
        codes = sorted({row["code"]["coding"][0]["code"] for row in rows if row.get("code", {}).get("coding")})
        return [f"/Patient?_has:Condition:patient:code={quote(code)}&_count=10" for code in codes]

    def wide_has(self) -> list[str]:
        """Conditions that nearly every patient meets; asked once before, since the first time is another matter."""
        years = range(1990, 2010)
        paths = [f"/Patient?_has:Observation:patient:date=gt{year}&_count=10" for year in years]
        for path in paths:
            self._target.request("GET", path)
        return paths

    def include(self) -> list[str]:
        """Two levels: the encounter of an Observation, and who was seen and where."""
        rows = [row for row in self._rows("Observation", 300) if "encounter" in row]
        further = "_include:iterate=Encounter:subject&_include:iterate=Encounter:service-provider"
        tail = f"_include=Observation:encounter&{further}"
        return [f"/Observation?_id={row['id']}&{tail}" for row in rows]

    def revinclude(self) -> list[str]:
        rows = self._rows("Encounter", 300)
        return [f"/Encounter?_id={row['id']}&_revinclude=Condition:encounter" for row in rows]

    def everything(self) -> list[str]:
        return [f"/Patient/{row['id']}/$everything?_count=50" for row in self._rows("Patient", 100)]

    def first_page(self) -> str:
        return "/Observation?_count=50"

    def deep_page(self) -> str:
        """A page of the same search, a hundred pages behind the first."""
        path = self.first_page()
        for _ in range(DEEP - 1):
            status, body = self._target.request("GET", path)
            following = [link["url"] for link in json.loads(body)["link"] if link["relation"] == "next"]
            if status != 200 or not following:
                break
            address = urlsplit(following[0])
            path = f"{address.path.removeprefix('/fhir')}?{address.query}"
        return path

    def words(self) -> list[str]:
        return [f"/Patient?_text={quote(name)}" for name in self._names()]

    def _names(self) -> list[str]:
        return [
            row["name"][0]["family"] for row in self._rows("Patient", 120) if row.get("name", [{}])[0].get("family")
        ]

    def _codes(self) -> list[str]:
        rows = self._rows("Observation", 400)
        codings = (row["code"]["coding"][0] for row in rows if row["code"].get("coding"))
        return sorted({f"{coding['system']}|{coding['code']}" for coding in codings if "system" in coding})

    def _rows(self, resource_type: str, count: int) -> list[Json]:
        return [json.loads(row["r"]) for row in self._target.sample(resource_type, count, r=1)]


def is_a_bundle(_: int, body: Json) -> str | None:
    """A searchset, with links."""
    return None if body.get("type") == "searchset" and body.get("link") else "no searchset"


def has_entries(index: int, body: Json) -> str | None:
    """A searchset that found something."""
    return is_a_bundle(index, body) or (None if body.get("entry") else "nothing was found")
