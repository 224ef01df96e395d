"""What `$find-doctor` is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from fhir_server.interactions.parameters import Inputs, wrong
from fhir_server.search.types.near import parse_value
from resources.scheduling import moment
from resources.scheduling.selection import references, tokens

Json = dict[str, Any]

SORTS: Final = ("distance", "price", "next-slot", "name")

NAMES: Final = (
    "specialty", "text", "name", "near", "place", "city", "language", "insurance", "price-max", "currency",
    "telehealth", "organization", "visit-type", "before", "bookable", "_sort", "_count", "_offset",
)  # fmt: skip

_AMOUNT = re.compile(r"\d{1,12}(\.\d{1,6})?", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody looks for; what is empty does not matter.

    Attributes:
        specialties: tokens, any of which
        texts: words for specialties, all of which
        names: parts of the name of the doctor
        near: a position with a distance, as a search for Locations takes it
        place: a Location from whose position is measured
        insurance: InsurancePlans, Coverages, and Organizations that pay
        programs: tokens of programs, such as a public insurance
        visits: tokens of types of visit
        before: a slot must begin before that
        bookable: only who has a free slot
    """

    specialties: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    near: str = ""
    place: str = ""
    city: str = ""
    languages: tuple[str, ...] = ()
    insurance: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    price_max: Decimal | None = None
    currency: str = ""
    telehealth: bool | None = None
    organizations: tuple[str, ...] = ()
    visits: tuple[str, ...] = ()
    before: datetime | None = None
    bookable: bool = False
    sort: str = ""
    count: int = 0
    offset: int = 0

    @property
    def by_slot(self) -> bool:
        """Whether it matters of all who are found when they are free, and not of a page alone."""
        return self.sort == "next-slot" or self.bookable or self.before is not None


def asked_of(inputs: Inputs, base_url: str, count: int, most: int) -> Asked:
    """What the parameters ask for.

    Raises:
        InvalidError: 400; there is one that is not known, or has a value that means nothing.
    """
    inputs.only(*NAMES)
    near, place = inputs.text("near") or "", references(inputs, "place", base_url, ("Location",))
    if near:
        parse_value("near", near)
    given = tokens_or_references(inputs, base_url)
    before = inputs.text("before")
    sort = inputs.choice("_sort", SORTS) or ("distance" if near or place else "next-slot")
    if sort == "distance" and not near and not place:
        raise wrong("_sort", sort, "with `near` or `place`, which say from where, or another order")
    telehealth = inputs.one("telehealth")
    return Asked(
        specialties=tokens(inputs, "specialty"),
        texts=texts(inputs, "text"),
        names=texts(inputs, "name"),
        near=near,
        place=place[0] if place else "",
        city=inputs.text("city") or "",
        languages=tokens(inputs, "language"),
        insurance=given[0],
        programs=given[1],
        price_max=amount(inputs),
        currency=currency(inputs),
        telehealth=None if telehealth is None else inputs.flag("telehealth"),
        organizations=references(inputs, "organization", base_url, ("Organization",)),
        visits=tokens(inputs, "visit-type"),
        before=moment.parsed(before, "Parameters.parameter.where(name='before')") if before else None,
        bookable=inputs.flag("bookable"),
        sort=sort,
        count=min(inputs.whole("_count", least=1) or count, most),
        offset=inputs.whole("_offset") or 0,
    )


def texts(inputs: Inputs, name: str) -> tuple[str, ...]:
    found = [str(value).strip() for value in inputs.all(name)]
    return tuple(text for text in found if text)


def tokens_or_references(inputs: Inputs, base_url: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The insurances: references to who or what pays, and codes of programs."""
    kinds = ("InsurancePlan", "Organization", "Coverage")
    named: list[str] = []
    codes: list[str] = []
    for given in inputs.all("insurance"):
        text = str(given.get("reference", "") if type(given) is dict and "reference" in given else given)
        text = text.removeprefix(f"{base_url}/")
        if type(given) is dict and "reference" not in given:
            codes += [f"{one.get('system', '')}|{one.get('code', '')}" for one in given.get("coding", [given])]
        elif text.partition("/")[0] in kinds and text.count("/") == 1:
            named.append(text)
        elif "|" in text:
            codes.append(text)
        else:
            raise wrong("insurance", text, f"a reference to {', '.join(kinds)}, or the code of a program,")
    return tuple(dict.fromkeys(named)), tuple(dict.fromkeys(codes))


def amount(inputs: Inputs) -> Decimal | None:
    value = inputs.one("price-max")
    if value is None:
        return None
    given = value.get("value") if type(value) is dict else value
    if not _AMOUNT.fullmatch(str(given)):
        raise wrong("price-max", value, "an amount of money, such as 80 or 79.50,")
    return Decimal(str(given))


def currency(inputs: Inputs) -> str:
    money = inputs.one("price-max")
    given = inputs.text("currency") or (money.get("currency", "") if type(money) is dict else "")
    if given and not _CURRENCY.fullmatch(str(given)):
        raise wrong("currency", given, "a currency of ISO 4217, such as EUR,")
    return str(given)
