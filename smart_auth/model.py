"""What the sign-in side stores and passes on: accounts, clients, authorization requests, grants, launches.

Rows of MongoDB collections whose names begin with `auth_`; times are aware UTC.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/, RFC 6749
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from fhir_server.model.access import Role

AccountState = Literal["unverified", "pending", "active", "disabled"]


@dataclass(frozen=True, slots=True)
class Account:
    """One person who can sign in.

    Attributes:
        id: the logical id of the row, and the `sub` of tokens
        email: as it was given, trimmed; compared without case
        role: what kind of user
        state: `unverified` until the e-mail address is proven, `pending` until somebody has verified a doctor, then
            `active`; `disabled` by an administrator
        fhir_user: the person's resource, `Patient/3`; None for an administrator without one
        organization: whose staff the person is, `Organization/1`
        patients: of a proxy, for whom they may act, `Patient/3`
        credentials_changed_at: sessions and grants made before then are no longer good
    """

    id: str
    email: str
    name: str
    role: Role
    state: AccountState
    fhir_user: str | None = None
    organization: str | None = None
    patients: tuple[str, ...] = ()
    created_at: datetime | None = None
    credentials_changed_at: datetime | None = None

    @property
    def acts_for(self) -> tuple[str, ...] | None:
        """The patients for whom a patient or a proxy may act: themselves, and whom they stand for; None for others."""
        if self.role not in ("patient", "proxy"):
            return None
        own = (self.fhir_user,) if self.fhir_user and self.fhir_user.startswith("Patient/") else ()
        return tuple(dict.fromkeys((*own, *self.patients)))


@dataclass(frozen=True, slots=True)
class Session:
    """One browser in which somebody is signed in.

    Attributes:
        id: names the session; the cookie holds a secret of its own, of which a digest is stored
        authenticated_at: when the person last proved who they are (`auth_time`)
        methods: how (`pwd`, `otp`, `hwk` …: RFC 8176)
        csrf: what forms of this session must carry
    """

    id: str
    account: Account
    authenticated_at: datetime
    methods: tuple[str, ...]
    csrf: str


@dataclass(frozen=True, slots=True)
class Client:
    """One registered app (RFC 7591 metadata, and what SMART adds).

    Attributes:
        client_id: its name in the protocol
        name: what people see
        auth_method: `none` (public), `client_secret_basic`, `client_secret_post` or `private_key_jwt`
        secret_hash: argon2 hash of the secret
        redirect_uris: compared exactly
        scope: what it may ask for, as a text
        grant_types: `authorization_code`, `refresh_token`, `client_credentials`
        launch_url: where an EHR launch sends the browser; empty when it cannot be launched
        jwks: its public keys, when registered by value
        jwks_uri: where they are, when registered by address
        role: of a client that acts for itself; what its policy is made of
        organization: whose system it is; None for the server's own
        trusted: whether the consent page is left out (only for first-party apps)
        active: whether it may do anything
        description: what it does, in a sentence or two, for people
        publisher: who makes it
        listed: whether the gallery shows it; an app that registered itself waits for an administrator
        state_systems: systems of app state codes that it shares with other apps that have them, too (see `app_state`)
    """

    client_id: str
    name: str
    auth_method: Literal["none", "client_secret_basic", "client_secret_post", "private_key_jwt"]
    redirect_uris: tuple[str, ...] = ()
    scope: str = ""
    grant_types: tuple[str, ...] = ("authorization_code", "refresh_token")
    secret_hash: str = ""
    launch_url: str = ""
    logo_uri: str = ""
    client_uri: str = ""
    policy_uri: str = ""
    contacts: tuple[str, ...] = ()
    jwks: dict[str, Any] | None = None
    jwks_uri: str = ""
    role: Role = "system"
    organization: str | None = None
    trusted: bool = False
    active: bool = True
    created_at: datetime | None = None
    description: str = ""
    publisher: str = ""
    listed: bool = True
    state_systems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LaunchContext:
    """What an app is launched with.

    Attributes:
        patient, encounter: `Patient/3`, `Encounter/4`
        fhir_context: further resources, as objects of `fhirContext`
        intent: what the user wants to do
        need_patient_banner: whether the app must show whose data it shows
    """

    patient: str | None = None
    encounter: str | None = None
    fhir_context: tuple[dict[str, Any], ...] = ()
    intent: str = ""
    need_patient_banner: bool = True


@dataclass(frozen=True, slots=True)
class Launch:
    """What a one-time launch token stands for: who launched the app, and with what.

    Attributes:
        account_id: who pressed the button; nobody else can go on with it
    """

    account_id: str
    context: LaunchContext


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """One authorization under way: what the app asked for, and how far the user has come.

    The authorization endpoint checks the request and stores it; the pages (sign in, choose a patient, consent) fill in
    the rest, and the endpoint then makes the code. It lives for some minutes.

    Attributes:
        id: an unguessable name; the pages carry it as `request`
        scope: what was asked for
        launch: the context of an EHR launch, taken from its one-time token
        launched_by: the account that the launch belongs to
        session_id: the session that took it up; another session cannot go on with it
        granted_scope: what the user allowed; None until then
        context: the launch context in the end
        lasts_s: how long the user lets the app keep its access; None: as the server's settings say
        remember: whether the consent page may be left out the next time
    """

    id: str
    client_id: str
    redirect_uri: str
    scope: str
    state: str
    aud: str
    code_challenge: str
    created_at: datetime
    nonce: str = ""
    prompt: str = ""
    max_age_s: int | None = None
    login_hint: str = ""
    launch: LaunchContext | None = None
    launched_by: str = ""
    session_id: str | None = None
    context: LaunchContext = field(default_factory=LaunchContext)
    granted_scope: str | None = None
    lasts_s: int | None = None
    remember: bool = False
    purpose: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Authorization:
    """What somebody has allowed an app: codes, refresh tokens and access tokens come from it, and end with it.

    Attributes:
        id: `grant_id` in tokens
        account_id: who allowed it; None for a client that acts for itself
        scope: as granted
        expires_at: when refresh tokens end
        revoked_at: when it was ended
        session_id: the session in which it was allowed; with `online_access` it ends with that
        methods: how the person had proved who they are (RFC 8176)
        remember: whether the consent page may be left out when the app asks for no more than this
    """

    id: str
    client_id: str
    account_id: str | None
    scope: str
    context: LaunchContext
    created_at: datetime
    session_id: str | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    purpose: str = ""
    reason: str = ""
    auth_time: datetime | None = None
    nonce: str = ""
    methods: tuple[str, ...] = ()
    remember: bool = False
