"""What the server knows of a signed prescription beside its resources: who may have it, and how much was handed out.

One row for each MedicationRequest, written in the same transactions as the resources. It holds digests of the pull
token and of the secret, never these themselves, and nothing of the patient.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from decimal import Decimal
from typing import Any

from fhir_server.model.errors import UnprocessableError
from fhir_server.storage.unit import Unit

PRESCRIPTIONS = "_prescriptions"


@dataclass(frozen=True, slots=True)
class Supply:
    """The row of one prescription.

    Attributes:
        order: the id of the MedicationRequest
        version: the version of it that was signed
        state: of the work: `dispensing.states`
        task: the id of the Task that is the work now
        provenance: the id of the Provenance that holds the signature
        owner: the pharmacy that it is addressed to, or that has claimed it
        token: digest of the pull token
        secret: digest of the secret of the pharmacy that has claimed it
        given: how much was handed out, in the unit of the prescription
        fills: how often something was handed out
        withdrawal: the id of the Task that asks the pharmacy to stop, while it is not answered
        withdrawn_us: since when it is taken back
        alarmed: whether somebody wanted to dispense it after it was taken back
        missed: whether it was told that nobody has collected it
    """

    order: str
    version: int
    state: str
    task: str
    token: str
    provenance: str
    owner: str | None = None
    secret: str | None = None
    given: str = "0"
    fills: int = 0
    withdrawal: str | None = None
    withdrawn_us: int | None = None
    alarmed: bool = False
    missed: bool = False

    @property
    def amount(self) -> Decimal:
        return Decimal(self.given)

    def but(self, **changed: Any) -> Supply:
        return replace(self, **changed)


async def supply_of(unit: Unit, order: str) -> Supply | None:
    """The row of a MedicationRequest; None where it was not signed here."""
    row = await unit.rows(PRESCRIPTIONS).get(order)
    return None if row is None else _supply(row)


async def supplies_of(unit: Unit, orders: list[str]) -> dict[str, Supply]:
    """The rows of those that were signed here."""
    rows = await unit.rows(PRESCRIPTIONS).find({"_id": {"$in": orders}}) if orders else []
    return {row["_id"]: _supply(row) for row in rows}


async def keep(unit: Unit, supply: Supply) -> None:
    row = asdict(supply)
    await unit.rows(PRESCRIPTIONS).put(row.pop("order"), row)


def _supply(row: dict[str, Any]) -> Supply:
    known = {field.name for field in fields(Supply)}
    return Supply(order=row["_id"], **{name: value for name, value in row.items() if name in known})


def not_signed(reference: str) -> UnprocessableError:
    return UnprocessableError(
        f"{reference} was not signed on this server, so that it can be read here and not dispensed by it.",
        key="HS-RX-NOT-SIGNED",
        expression="MedicationRequest.status",
    )
