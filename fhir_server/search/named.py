"""Named queries: `_query=current` and others, searches of this server's own with a name.

Each is a row of `QUERIES`. What it means is said in search parameters, so that there is one way to search, and nothing
that a client could not ask for itself. Its own parameters are left out with a default; the links of a page say which,
so that all pages speak about the same moment. Definitions: `profiles/definitions/OperationDefinition-*.json`.

Some are what functional lists name: `_list=$current-problems`.

Spec: https://hl7.org/fhir/R4/search.html#query, https://hl7.org/fhir/R4/search.html#list
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.dates import interval_of
from fhir_server.model.errors import InvalidError
from fhir_server.search.types.conditions import malformed

Pairs = list[tuple[str, str]]
Given = Mapping[str, str]

#: Of this server alone; the definitions are in `profiles/definitions`.
OWN = "urn:healthsphere:OperationDefinition"

_DAY_US = 86_400_000_000
_MOST_DAYS = 3660


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """A parameter that a named query has beside those of its type.

    Attributes:
        read: takes its name and a value, refuses one that it cannot have, and gives the value as it takes effect
        default: what it is when it is not given
    """

    name: str
    read: Callable[[str, str], str]
    default: Callable[[], str]


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """One named query.

    Attributes:
        code: its name, the value of `_query`
        type: the resource type that it searches
        meaning: what it finds, in one sentence
        criteria: the search parameters that it stands for, given its own parameters
        sort: its order where the request has no `_sort`
        parameters: its own parameters
        functional_list: the one that has the same members, such as `$current-problems`
    """

    code: str
    type: str
    meaning: str
    criteria: Callable[[Given], Pairs]
    sort: str
    parameters: tuple[QueryParameter, ...] = ()
    functional_list: str | None = None

    @property
    def definition(self) -> str:
        """The canonical URL of its OperationDefinition."""
        return f"{OWN}:{self.type}-{self.code}"

    def given(self, pairs: Iterable[tuple[str, str]]) -> Given:
        """The values of its own parameters, those that are left out included.

        Raises:
            InvalidError: 400; one is given twice, or cannot have its value.
        """
        values: dict[str, str] = {}
        own = {parameter.name: parameter for parameter in self.parameters}
        for name, text in pairs:
            if name in own and text:
                value = own[name].read(name, text)
                if values.setdefault(name, value) != value:
                    raise malformed(name, text, f"one value for it, and {values[name][:40]!r} was given before")
        return {name: values.get(name) or parameter.default() for name, parameter in own.items()}


def query_of(resource_type: str, code: str) -> NamedQuery:
    """The query of a type by its name.

    Raises:
        InvalidError: 400; there is none of this name, as servers must say; those that there are, are listed.
    """
    known = {query.code: query for query in QUERIES if query.type == resource_type}
    if code in known:
        return known[code]
    near = get_close_matches(code, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    where = "There is" if known else "Other types have some:"
    raise _refused(f"{resource_type} has no named query {code[:60]!r}.{hint} {where}", known.values() or QUERIES)


def of_one_type(code: str) -> InvalidError:
    """400: a named query of several types at once."""
    return _refused(f"A named query is of one type, and {code[:60]!r} was asked of several. There are", QUERIES)


def listed_by(resource_type: str, name: str) -> NamedQuery:
    """The query of a type that a functional list names.

    Raises:
        InvalidError: 400; there is none for it.
    """
    known = {query.functional_list: query for query in QUERIES if query.type == resource_type and query.functional_list}
    if name in known:
        return known[name]
    raise InvalidError(
        f"There is no functional list {name[:60]!r} of {resource_type}; there is "
        + ("; ".join(f"{query.functional_list} of {query.type}" for query in QUERIES if query.functional_list))
        + ". Otherwise `_list` takes the ids of List resources.",
        code="not-supported",
        key="HS-SEARCH-LIST",
        expression="http._list",
    )


def _refused(why: str, known: Iterable[NamedQuery]) -> InvalidError:
    listed = "; ".join(f"{query.type}: {query.code} ({query.meaning})" for query in known)
    return InvalidError(
        f"{why} {listed}.",
        code="not-supported",
        key="HS-SEARCH-QUERY",
        expression="http._query",
    )


# --- the parameters of queries ----------------------------------------------------------------------------------------


def _moment(name: str, text: str) -> str:
    """A date or dateTime; the plus of a zone may have arrived as a blank."""
    plain = text.replace(" ", "+")
    try:
        interval_of(plain)
    except InvalidError:
        raise malformed(name, text, "a date or dateTime, such as 2026-05-03 or 2026-05-03T10:00:00Z") from None
    return plain


def _now() -> str:
    return instant_of(now_us() // 1_000_000 * 1_000_000).replace(".000", "")


def _days(name: str, text: str) -> str:
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= _MOST_DAYS):
        raise malformed(name, text, f"a whole number of days, 1 to {_MOST_DAYS:,}")
    return str(int(text))


# --- the queries ------------------------------------------------------------------------------------------------------


def _current_orders(given: Given) -> Pairs:
    return [
        ("status", "active"),
        ("intent", "order,original-order,reflex-order,filler-order,instance-order"),
        ("_filter", f"validity pr false or validity po {given['on']}"),
    ]


def _upcoming(given: Given) -> Pairs:
    end_us = interval_of(given["from"]).start_us + int(given["days"]) * _DAY_US
    return [
        ("status", "pending,booked,arrived,checked-in"),
        ("date", f"ge{given['from']}"),
        ("date", f"lt{instant_of(end_us)}"),
    ]


def _true_and(*statuses: str) -> Callable[[Given], Pairs]:
    pairs = [("clinical-status", ",".join(statuses)), ("verification-status:not", "refuted,entered-in-error")]
    return lambda _: pairs


def _in(*statuses: str) -> Callable[[Given], Pairs]:
    return lambda _: [("status", ",".join(statuses))]


QUERIES: tuple[NamedQuery, ...] = (
    NamedQuery(
        "current",
        "MedicationRequest",
        "prescriptions that may be dispensed and taken now: active orders whose validity has begun and not ended",
        _current_orders,
        "-authoredon",
        (QueryParameter("on", _moment, _now),),
        "$current-medications",
    ),
    NamedQuery(
        "upcoming",
        "Appointment",
        "appointments that begin within some days from now, and are not cancelled",
        _upcoming,
        "date",
        (QueryParameter("from", _moment, _now), QueryParameter("days", _days, lambda: "14")),
    ),
    NamedQuery(
        "current-problems",
        "Condition",
        "conditions that are active, also again, and neither refuted nor entered in error",
        _true_and("active", "recurrence", "relapse"),
        "-recorded-date",
        functional_list="$current-problems",
    ),
    NamedQuery(
        "current-allergies",
        "AllergyIntolerance",
        "allergies and intolerances that are active, and neither refuted nor entered in error",
        _true_and("active"),
        "-date",
        functional_list="$current-allergies",
    ),
    NamedQuery(
        "open",
        "Task",
        "tasks that wait for somebody or are under way, the oldest first",
        _in("requested", "received", "accepted", "ready", "in-progress", "on-hold"),
        "authored-on",
    ),
    NamedQuery(
        "present",
        "Encounter",
        "encounters whose patients are here: arrived, triaged, being seen, or on leave",
        _in("arrived", "triaged", "in-progress", "onleave"),
        "-date",
    ),
)
