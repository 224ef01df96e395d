"""What terminology costs with 100,000 concepts, from request to answer.

Run as a script against a server that asks for no token: `python -m tests.terminology.cost [FHIR base] [concepts]`. It
stores a CodeSystem and two ValueSets there, waits until they are built, and asks.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import httpx

Json = dict[str, Any]

URL = "http://example.org/CodeSystem/cost"
BELOW = "http://example.org/ValueSet/cost-below"
ROUNDS = 10


def code_system(number: int) -> Json:
    """Each concept has up to ten below it."""
    concepts: list[Json] = [{"code": "c0", "display": "Concept 0"}]
    for n in range(1, number):
        kind = ("alpha", "beta", "gamma")[n % 3]
        row: Json = {"code": f"c{n}", "display": f"Concept number {n} of kind {kind}"}
        concepts.append({**row, "property": [{"code": "parent", "valueCode": f"c{n // 10}"}]})
    return {
        "resourceType": "CodeSystem",
        "id": "cost",
        "url": URL,
        "status": "active",
        "content": "complete",
        "concept": concepts,
    }


def value_set() -> Json:
    rule = {"property": "concept", "op": "is-a", "value": "c9"}
    return {
        "resourceType": "ValueSet",
        "id": "cost-below",
        "url": BELOW,
        "status": "active",
        "compose": {"include": [{"system": URL, "filter": [rule]}]},
    }


def questions(number: int) -> dict[str, str]:
    everything = f"ValueSet/$expand?url={URL}?fhir_vs"
    last = f"c{number - 1}"
    return {
        "$lookup": f"CodeSystem/$lookup?system={URL}&code={last}",
        "$subsumes": f"CodeSystem/$subsumes?system={URL}&codeA=c9&codeB={last}",
        "$validate-code by is-a": f"ValueSet/$validate-code?url={BELOW}&system={URL}&code={last}",
        "$expand, first page": f"{everything}&count=50",
        "$expand, a late page": f"{everything}&count=50&offset={number * 9 // 10}",
        "$expand, a rare word": f"{everything}&count=20&filter=9999",
        "$expand, a word of all": f"{everything}&count=20&filter=conc",
        "$expand, two words": f"{everything}&count=20&filter=numb 77",
        "$expand by is-a, first page": f"ValueSet/$expand?url={BELOW}&count=50",
        "$expand by is-a, a late page": f"ValueSet/$expand?url={BELOW}&count=50&offset={number // 20}",
        "search by :below": f"Observation?code:below={URL}|c9",
    }


def milliseconds(client: httpx.Client, address: str) -> tuple[float, float]:
    """The first answer, and the median of those after it."""
    spent = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        client.get(address).raise_for_status()
        spent.append((time.perf_counter() - began) * 1000)
    first, *others = spent
    return first, sorted(others)[len(others) // 2]


def main(base: str, number: int) -> None:
    with httpx.Client(base_url=base, timeout=120, headers={"Content-Type": "application/fhir+json"}) as client:
        client.put("CodeSystem/cost", json=code_system(number)).raise_for_status()
        client.put("ValueSet/cost-below", json=value_set()).raise_for_status()
        began = time.perf_counter()
        while client.get(f"CodeSystem/$lookup?system={URL}&code=c1").status_code != 200:
            time.sleep(0.2)
        print(f"built in {time.perf_counter() - began:.1f} s")
        for name, address in questions(number).items():
            first, later = milliseconds(client, address)
            print(f"{name:32} first {first:7.1f} ms, then {later:7.1f} ms")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(given[0] if given else "http://127.0.0.1:8000/fhir/", int(given[1]) if len(given) > 1 else 100_000)
