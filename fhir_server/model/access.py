"""Who asks, and what they may see and change: the words that the sign-in side and the FHIR side share.

`smart_auth` turns a token into an `Identity`. `policies` turns an identity into an `AccessPolicy`. `access` compiles a
policy into the database's own filters, and holds every read and every write to it. Nothing here knows of tokens,
databases or HTTP.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html, https://hl7.org/fhir/R4/security.html
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

#: The interactions of a SMART scope: create, read (with vread and the history of an instance), update (with patch),
#: delete, search (with the history of types and of the system).
Verb: TypeAlias = Literal["c", "r", "u", "d", "s"]
VERBS: Final = "cruds"

#: Types with verbs of which a policy remembers whether it may allow them: more than there are.
MOST_ASKED: Final = 1_000

#: Stands for every resource type.
ANY_TYPE: Final = "*"

#: What kinds of users there are; each is one section of the table of roles.
Role: TypeAlias = Literal[
    "patient", "proxy", "practitioner", "pharmacy", "front-desk", "administrator", "auditor", "system", "operator"
]

#: A purpose of use (http://terminology.hl7.org/CodeSystem/v3-ActReason): treatment, and breaking the glass.
TREATMENT: Final = "TREAT"
BREAK_GLASS: Final = "BTG"


@dataclass(frozen=True, slots=True)
class Scope:
    """One scope for resources, read: `patient/Observation.rs?category=vital-signs`.

    Attributes:
        level: whose data: of the patient in context, of what the user may see, of what the client may see
        type: a resource type, or `*`
        verbs: some of `cruds`, in that order
        criteria: search parameters that a resource must meet, decoded, in the order of the text
    """

    level: Literal["patient", "user", "system"]
    type: str
    verbs: str
    criteria: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who sends a request, as their access token proves it.

    Attributes:
        subject: the id of the account; of a client that acts for itself, its client id
        client_id: the app that sends the request
        role: the table of roles says what it allows
        scopes: what the token was granted for resources
        scope: all granted scopes as one text, `openid` and the like included
        fhir_user: the resource of the user, `Practitioner/12`; None for a client that acts for itself
        organization: whose staff the user is, `Organization/1`
        patients: for whom the user's account acts beside themselves, `Patient/3`: those of a proxy, or of a patient who
            stands for others
        patient: the patient in context, `Patient/3`
        encounter: the encounter in context, `Encounter/4`
        purpose: why (`TREAT`, `BTG` …); empty: what the table of roles says of the role
        reason: the user's own words for it, which breaking the glass asks for
        token_id: names the access token (`jti`)
        grant_id: names the authorization that the token comes from, by which it is revoked
        expires_us: when the token ends, microseconds since 1970
    """

    subject: str
    client_id: str
    role: Role
    scopes: tuple[Scope, ...] = ()
    scope: str = ""
    fhir_user: str | None = None
    organization: str | None = None
    patient: str | None = None
    encounter: str | None = None
    patients: tuple[str, ...] = ()
    purpose: str = ""
    reason: str = ""
    token_id: str = ""
    grant_id: str = ""
    expires_us: int = 0


@dataclass(frozen=True, slots=True)
class Grant:
    """Some resources, and what may be done with them.

    Attributes:
        type: a resource type, or `*` for all
        verbs: some of `cruds`
        compartments: the resource must be in the compartment of one of these (`Patient/3`, `Encounter/4`); None: no
            such limit. Of a type that has no place in such a compartment nothing meets it.
        criteria: search parameters of the type that the resource must meet, all of them
        ids: the resource must have one of these logical ids; None: no such limit
        unless: exceptions: what one of these covers is not meant. Stands in denials only, where whoever overlooks it
            hides too much, never too little.
    """

    type: str
    verbs: str
    compartments: frozenset[str] | None = None
    criteria: tuple[tuple[str, str], ...] = ()
    ids: frozenset[str] | None = None
    unless: tuple[Grant, ...] = ()

    def covers(self, resource_type: str, verb: Verb) -> bool:
        """Whether it says anything of this type and this verb."""
        return verb in self.verbs and self.type in (ANY_TYPE, resource_type)

    @property
    def limited(self) -> bool:
        """Whether it leaves out some resources of its type."""
        return self.compartments is not None or bool(self.criteria) or self.ids is not None or bool(self.unless)


@dataclass(frozen=True, slots=True)
class Kept:
    """An element that a writer leaves as it is, and leaves out of what they make.

    Attributes:
        type: a resource type
        path: the element below it (`identifier`, `deceased[x]`, `meta.security`)
    """

    type: str
    path: str


@dataclass(frozen=True, slots=True)
class Signed:
    """An element of references in which a writer names nobody but themselves, before and after a change.

    Attributes:
        type: a resource type
        path: the element below it (`performer`)
        by: the references that are the writer
    """

    type: str
    path: str
    by: frozenset[str]


#: All grants of one origin; a resource is allowed by a layer when one of its grants allows it.
Layer: TypeAlias = tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """What somebody may see and change: each layer must allow it, and no denial may name it.

    The scopes of the token are one layer, the role of the user another. Denials come from Consents and security labels:
    what meets a denial does not exist for this reader, whatever the layers say.

    Attributes:
        layers: an empty layer allows nothing; no layers at all allow everything
        denials: grants read the other way round: what they cover is hidden and cannot be changed
        operations: codes of operations that change or show more than resources one by one (`purge`, `reindex` …), which
            this reader may call; None: all of them
        keeps: elements that this writer leaves as they are
        signs: elements in which this writer names only themselves
        stamp: coding `(system, code)` that resources created by this reader carry as `meta.tag`, by which
            staff-only data of an organization is told from that of others; None: no stamp
        version: names what the policy was made of, for the audit trail
    """

    layers: tuple[Layer, ...] = ()
    denials: Layer = ()
    operations: frozenset[str] | None = None
    keeps: tuple[Kept, ...] = ()
    signs: tuple[Signed, ...] = ()
    stamp: tuple[str, str] | None = None
    version: str = ""
    #: What `may` has found: layers have hundreds of grants, and it is asked with every request.
    _may: dict[tuple[str, Verb], bool] = field(default_factory=dict, init=False, repr=False, compare=False)

    def may(self, resource_type: str, verb: Verb) -> bool:
        """Whether anything of this type can be allowed at all: asked before a request is carried out."""
        found = self._may.get((resource_type, verb))
        if found is None:
            found = all(any(grant.covers(resource_type, verb) for grant in layer) for layer in self.layers)
            if len(self._may) < MOST_ASKED:  # a type can be any word of an address
                self._may[resource_type, verb] = found
        return found

    def may_operate(self, operation: str, resource_type: str = "") -> bool:
        """Whether an operation may be called; of several with one code, one type's alone (`Appointment/accept`)."""
        names = self.operations
        return names is None or operation in names or f"{resource_type}/{operation}" in names

    @property
    def everything(self) -> bool:
        """Whether it hides and forbids nothing."""
        return not (self.layers or self.denials or self.keeps or self.signs)


#: The policy of who runs the server, and of a server without access control.
FULL_ACCESS: Final = AccessPolicy()


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody at the door: who they are, and what they may do."""

    identity: Identity
    policy: AccessPolicy = field(default=FULL_ACCESS)


#: Who calls where access control is off.
NOBODY: Final = Caller(Identity("", "", "operator"))


def verbs_of(text: Iterable[str]) -> str:
    """Some verbs in the order of the standard."""
    wanted = set(text)
    return "".join(verb for verb in VERBS if verb in wanted)
