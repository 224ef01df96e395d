"""The pages by which accounts come to be: register, apply, follow the mailed link, take an invitation up."""

from __future__ import annotations

from datetime import date

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhir_server.model.errors import FhirError
from smart_auth.accounts import LONGEST_NAME, email_of
from smart_auth.pages.page import Elsewhere, PageError, Pages
from smart_auth.pages.sign_in import SignInPages
from smart_auth.passwords import SHORTEST, faults_of
from smart_auth.people import Application, PersonName
from smart_auth.registration import Registrar, Registration
from smart_auth.signing_in import SignIn
from smart_auth.store import Row
from smart_auth.throttle import MAILS_PER_ADDRESS

OLDEST = date(1900, 1, 1)
REFUSED_RESOURCE = "Your record could not be made. Correct the form, or ask whoever runs this server."


class RegistrationPages:
    """`/auth/register`, `/auth/apply`, `/auth/verify`, `/auth/invitation`."""

    def __init__(self, pages: Pages, registrar: Registrar, sign_in: SignIn, arrival: SignInPages) -> None:
        self._pages = pages
        self._registrar = registrar
        self._sign_in = sign_in
        self._arrival = arrival

    def routes(self) -> list[Route]:
        route, rules = self._pages.route, self._pages.parts.rules
        routes = [
            route("/auth/verify", self.show_verify),
            route("/auth/verify", self.verify, "POST"),
            route("/auth/invitation", self.show_invitation),
            route("/auth/invitation", self.accept, "POST"),
        ]
        if rules.self_registration:
            routes += [route("/auth/register", self.show_register), route("/auth/register", self.register, "POST")]
        if rules.applications:
            routes += [route("/auth/apply", self.show_apply), route("/auth/apply", self.apply, "POST")]
        return routes

    # --- forms --------------------------------------------------------------------------------------------------

    async def show_register(self, request: Request) -> Response:
        return self._pages.show(request, "register.html", values={}, errors={})

    async def register(self, request: Request) -> Response:
        values = await self._pages.form(request)
        errors = _person_errors(values)
        birth_date = values.get("birth_date", "").strip()
        if not _is_birth_date(birth_date):
            errors["birth_date"] = "Enter a date such as 1980-03-01."
        if errors:
            return self._pages.show(request, "register.html", status=400, values=values, errors=errors)
        wanted = Registration(_email(values), _name(values), birth_date=birth_date)
        return await self._sent(request, wanted)

    async def show_apply(self, request: Request) -> Response:
        return self._pages.show(request, "apply.html", values={}, errors={})

    async def apply(self, request: Request) -> Response:
        values = await self._pages.form(request)
        errors = _person_errors(values)
        for field in ("specialty", "licence", "issuer"):
            if not 1 <= len(values.get(field, "").strip()) <= LONGEST_NAME:
                errors[field] = "Fill this in."
        if len(values.get("organization", "")) > LONGEST_NAME:
            errors["organization"] = f"Use at most {LONGEST_NAME} characters."
        if (until := values.get("until", "").strip()) and not _is_to_come(until):
            errors["until"] = "Enter a date to come, such as 2031-06-30, or nothing."
        if errors:
            return self._pages.show(request, "apply.html", status=400, values=values, errors=errors)
        application = Application(
            *(values.get(field, "").strip() for field in ("specialty", "licence", "issuer", "organization", "until"))
        )
        return await self._sent(
            request, Registration(_email(values), _name(values), role="practitioner", application=application)
        )

    async def _sent(self, request: Request, wanted: Registration) -> Response:
        """The same answer for every address; what it leads to happens after it."""
        visit = self._pages.visit(request)
        await run_in_threadpool(self._pages.parts.throttle.attempt, f"mails:{visit.address}", MAILS_PER_ADDRESS)
        answer = self._pages.show(
            request,
            "message.html",
            title="Look into your mailbox",
            text=f"We have sent a mail to {wanted.email}. Open the link in it to go on.",
            link=None,
        )
        answer.background = BackgroundTask(self._registrar.register, wanted, visit)
        return answer

    # --- the link of a registration -----------------------------------------------------------------------------

    async def show_verify(self, request: Request) -> Response:
        wanted = await self._registrar.registration_of(request.query_params.get("token", ""))
        return self._choose(request, "/auth/verify", wanted.email, str(wanted.name))

    async def verify(self, request: Request) -> Response:
        fields = await self._pages.form(request)
        token = fields.get("token", "")
        wanted = await self._registrar.registration_of(token)
        name = str(wanted.name)
        if errors := password_errors(fields, wanted.email, name):
            return self._choose(request, "/auth/verify", wanted.email, name, errors, token)
        try:
            row = await self._registrar.verify(token, fields["password"], self._pages.visit(request))
        except FhirError as error:
            raise PageError(422, "That did not work", REFUSED_RESOURCE) from error
        return await self._signed_in(request, row)

    # --- the link of an invitation ------------------------------------------------------------------------------

    async def show_invitation(self, request: Request) -> Response:
        account = await self._registrar.invited(request.query_params.get("token", ""))
        return self._choose(request, "/auth/invitation", account.email, account.name)

    async def accept(self, request: Request) -> Response:
        fields = await self._pages.form(request)
        token = fields.get("token", "")
        account = await self._registrar.invited(token)
        if errors := password_errors(fields, account.email, account.name):
            return self._choose(request, "/auth/invitation", account.email, account.name, errors, token)
        try:
            row = await self._registrar.accept(token, fields["password"], self._pages.visit(request))
        except FhirError as error:
            raise PageError(422, "That did not work", REFUSED_RESOURCE) from error
        return await self._signed_in(request, row)

    async def _signed_in(self, request: Request, row: Row) -> Response:
        """Whoever has just proven the address and chosen the password need not type it again."""
        if row["state"] == "pending":
            return self._pages.show(
                request,
                "message.html",
                title="Your application has arrived",
                text="We look at it and write to you. Until then you cannot sign in.",
                link=None,
            )
        reached = await self._sign_in.proceed(
            row, ("pwd",), self._pages.visit(request), old_secret=self._pages.parts.sessions.secret_of(request)
        )
        return self._arrival.arrive(reached, "/auth/account")

    def _choose(
        self,
        request: Request,
        action: str,
        email: str,
        name: str,
        errors: dict[str, str] | None = None,
        token: str | None = None,
    ) -> Response:
        return self._pages.show(
            request,
            "choose_password.html",
            status=400 if errors else 200,
            action=action,
            email=email,
            name=name,
            errors=errors or {},
            token=request.query_params.get("token", "") if token is None else token,
            shortest=SHORTEST,
        )


def password_errors(fields: dict[str, str], *known: str) -> dict[str, str]:
    """What is wrong with a new password and its repetition, by field."""
    password = fields.get("password", "")
    if faults := faults_of(password, *known):
        return {"password": " ".join(faults)}
    if fields.get("repeat", "") != password:
        return {"repeat": "The two passwords differ."}
    return {}


def _person_errors(values: dict[str, str]) -> dict[str, str]:
    errors = {}
    for field in ("given", "family"):
        if not 1 <= len(values.get(field, "").strip()) <= LONGEST_NAME // 2:
            errors[field] = "Fill this in."
    if email_of(values.get("email", "")) is None:
        errors["email"] = "This is no e-mail address."
    return errors


def _email(values: dict[str, str]) -> str:
    email = email_of(values["email"])
    if email is None:
        raise Elsewhere("/auth/register")
    return email


def _name(values: dict[str, str]) -> PersonName:
    return PersonName(" ".join(values["given"].split()), " ".join(values["family"].split()))


def _is_to_come(text: str) -> bool:
    try:
        return len(text) == len("2031-06-30") and date.fromisoformat(text) >= date.today()
    except ValueError:
        return False


def _is_birth_date(text: str) -> bool:
    try:
        return OLDEST <= date.fromisoformat(text) <= date.today() and len(text) == 10
    except ValueError:
        return False
