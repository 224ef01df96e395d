"""Scopes: what they mean, which of them lie within others, and how they are written.

Scopes for resources come in two forms, and mean the same set of interactions: `patient/Observation.read` (version 1)
is `patient/Observation.rs` (version 2); `.write` is `.cud`, `.*` is `.cruds`. The form in which an app asked is kept
where it can be, since the app looks for it in the answer.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html,
https://hl7.org/fhir/smart-app-launch/1.0.0/scopes-and-launch-context/
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final
from urllib.parse import quote, unquote_plus

from fhir_server.model.access import ANY_TYPE, VERBS, Scope, verbs_of

OPENID: Final = "openid"
FHIR_USER: Final = "fhirUser"
PROFILE: Final = "profile"
LAUNCH: Final = "launch"
LAUNCH_PATIENT: Final = "launch/patient"
LAUNCH_ENCOUNTER: Final = "launch/encounter"
OFFLINE: Final = "offline_access"
ONLINE: Final = "online_access"

#: This server's own: an administrator's app manages accounts and apps in the administrator's name.
ACCOUNTS: Final = "accounts"

#: Scopes that are no scopes for resources.
OTHERS: Final = (OPENID, FHIR_USER, PROFILE, LAUNCH, LAUNCH_PATIENT, LAUNCH_ENCOUNTER, OFFLINE, ONLINE, ACCOUNTS)

#: Version 1 writes these for some sets of interactions.
VERBS_OF_V1: Final = {"read": "rs", "write": "cud", "*": VERBS}
V1_OF_VERBS: Final = {verbs: word for word, verbs in VERBS_OF_V1.items()}

RESOURCE_SCOPE: Final = re.compile(
    r"(?P<level>patient|user|system)/(?P<type>\*|[A-Z][A-Za-z]{1,60})\."
    r"(?:(?P<v1>read|write|\*)|(?P<verbs>c?r?u?d?s?)(?:\?(?P<criteria>[!#-\[\]-~]+))?)"
)

#: A parameter of a scope is a search parameter, perhaps with a modifier or a chain.
PARAMETER_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:\-]*")

#: A scope for anything else that an answer to a search is shaped by is none.
NOT_CRITERIA: Final = re.compile(
    r"_(count|cursor|elements|format|include|maxresults|offset|pretty|query|revinclude|score|since|sort|summary|total)\b"
)


def scope_of(text: str) -> Scope | None:
    """A scope for resources, read; None when it is another scope, or none.

    >>> scope_of("patient/Observation.rs?category=laboratory&status=final").criteria
    (('category', 'laboratory'), ('status', 'final'))
    >>> scope_of("user/*.read") == scope_of("user/*.rs")
    True
    """
    found = RESOURCE_SCOPE.fullmatch(text)
    if found is None:
        return None
    verbs = VERBS_OF_V1[found["v1"]] if found["v1"] else found["verbs"]
    criteria = _criteria_of(found["criteria"])
    if not verbs or criteria is None or (criteria and found["type"] == ANY_TYPE):
        return None
    return Scope(found["level"], found["type"], verbs, criteria)  # type: ignore[arg-type]


def _criteria_of(query: str | None) -> tuple[tuple[str, str], ...] | None:
    """The search parameters, decoded; None when one of them is none."""
    if query is None:
        return ()
    criteria = []
    for part in query.split("&"):
        name, _, value = part.partition("=")
        name = unquote_plus(name)
        if not value or not PARAMETER_NAME.fullmatch(name) or NOT_CRITERIA.match(name):
            return None
        criteria.append((name, unquote_plus(value)))
    return tuple(criteria)


def text_of(scope: Scope, like: str = "") -> str:
    """The scope as text: in version 2, or in version 1 if `like` is written so and version 1 can say it.

    >>> text_of(Scope("patient", "Observation", "rs"), like="patient/Observation.*")
    'patient/Observation.read'
    """
    v1 = RESOURCE_SCOPE.fullmatch(like)
    verbs = V1_OF_VERBS.get(scope.verbs) if v1 and v1["v1"] and not scope.criteria else None
    text = f"{scope.level}/{scope.type}.{verbs or scope.verbs}"
    if scope.criteria:
        text += "?" + "&".join(f"{name}={quote(value, safe='/:|,.$-_~')}" for name, value in scope.criteria)
    return text


def words_in(text: str) -> list[str]:
    """The scopes of a text, each once, in its order."""
    return list(dict.fromkeys(text.split()))


def scopes_of(text: str) -> tuple[Scope, ...]:
    """The scopes for resources in a text."""
    return tuple(scope for word in words_in(text) if (scope := scope_of(word)) is not None)


def known(text: str, types: Collection[str] | None = None) -> str:
    """The text without what is no scope, and without resource types that do not exist.

    An app may ask for what a server does not know (other servers do); it is then told what it got.
    """
    kept = []
    for word in words_in(text):
        scope = scope_of(word)
        if word in OTHERS or (scope is not None and (types is None or scope.type == ANY_TYPE or scope.type in types)):
            kept.append(word)
    return " ".join(kept)


def covers(allowed: Iterable[Scope], asked: Scope) -> bool:
    """Whether all that `asked` gives is given by `allowed`, each interaction by one scope alone.

    A scope with criteria lies within one without, or with some of them: each criterion takes something away.
    """
    fitting = [
        scope.verbs
        for scope in allowed
        if scope.level == asked.level
        and scope.type in (ANY_TYPE, asked.type)
        and set(scope.criteria) <= set(asked.criteria)
    ]
    return all(any(verb in verbs for verbs in fitting) for verb in asked.verbs)


def within(text: str, allowed: str) -> bool:
    """Whether every scope of `text` lies within `allowed`; what is no scope at all lies within nothing."""
    there, names = scopes_of(allowed), set(words_in(allowed))
    for word in words_in(text):
        scope = scope_of(word)
        if (word not in names) if scope is None else not covers(there, scope):
            return False
    return True


def narrowed(asked: str, allowed: str) -> str:
    """What of `asked` lies within `allowed`: a scope that lies within it wholly stays as it was written.

    >>> narrowed("openid patient/*.*", "openid fhirUser patient/Observation.rs patient/Patient.read")
    'openid patient/Observation.read patient/Patient.read'
    """
    there, names = scopes_of(allowed), set(words_in(allowed))
    kept: dict[str, None] = {}
    for word in words_in(asked):
        scope = scope_of(word)
        if scope is None:
            if word in names:
                kept[word] = None
        elif covers(there, scope):
            kept[word] = None
        else:
            kept.update(dict.fromkeys(text_of(part, like=word) for part in _meeting(there, scope)))
    return " ".join(kept)


def _meeting(allowed: Iterable[Scope], asked: Scope) -> Iterable[Scope]:
    """What each of the allowed scopes and the asked one have in common."""
    for scope in allowed:
        verbs = verbs_of(verb for verb in asked.verbs if verb in scope.verbs)
        if scope.level != asked.level or not verbs:
            continue
        if ANY_TYPE in (scope.type, asked.type) or scope.type == asked.type:
            named = asked.type if scope.type == ANY_TYPE else scope.type
            criteria = tuple(dict.fromkeys(asked.criteria + scope.criteria))
            if not (criteria and named == ANY_TYPE):
                yield Scope(asked.level, named, verbs, criteria)


def without(text: str, name: str) -> str:
    """The text less one scope that is none for resources."""
    return " ".join(word for word in words_in(text) if word != name)


def has(text: str, name: str) -> bool:
    """Whether a scope that is none for resources is in a text."""
    return name in words_in(text)


def needs_patient(text: str) -> bool:
    """Whether the scopes are about one patient, who must then be known."""
    return has(text, LAUNCH_PATIENT) or any(scope.level == "patient" for scope in scopes_of(text))


def lasts(text: str) -> bool:
    """Whether the app may get new access tokens by itself."""
    return has(text, OFFLINE) or has(text, ONLINE)
