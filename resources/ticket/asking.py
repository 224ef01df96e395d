"""`Task/$open-ticket`: a question to a pool, with a thread and a clock, read for what cannot wait."""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.answers import touched_by
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.model import codec
from fhir_server.model.clock import instant_of, new_id
from fhir_server.model.errors import UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.repository import Change, Committed
from fhir_server.storage.unit import Unit
from resources.communication.members import people_of
from resources.communication.speaking import committed, reference_in, speaker_of, written
from resources.communication.threads import opened, require_reachable, subject_of
from resources.notification.outbox import notify_within
from resources.ticket.alarms import page_within
from resources.ticket.clock import timed
from resources.ticket.red_flags import QUESTIONS, answered_yes, notice_of, red_flags
from resources.ticket.words import POOLS, TASKS, TICKET, coded

Json = dict[str, Any]

#: What people may say of their own question; `stat` is what the safety net says.
PRIORITIES = ("routine", "urgent", "asap")


async def open_ticket(context: Context, request: Request) -> Answer:
    """The ticket; with a notice for the patient where the question cannot wait.

    Raises:
        NotFoundError: 404; there is no such pool, or patient.
    """
    inputs = Inputs.of(request)
    inputs.only("pool", "message", "topic", "priority", "patient", "answers", "sender")
    speaker = speaker_of(context, inputs)
    pool = str(inputs.required("pool", reference_in(inputs, "pool")))
    if not pool.startswith("CareTeam/"):
        raise UnprocessableError("A pool is a CareTeam.", key="HS-TICKET-POOL")
    await require_reachable(context, [pool])
    text, answers = str(inputs.required("message", inputs.text("message"))), inputs.resource("answers")
    patient = await subject_of(context, reference_in(inputs, "patient"))
    priority = inputs.choice("priority", PRIORITIES) or "routine"
    topic = inputs.text("topic")
    flags = red_flags().found("\n".join(filter(None, (topic, text))))
    yes = answered_yes(answers) if answers is not None else []
    stat = bool(flags or yes)
    changes = opened(speaker, [pool], subject=patient, topic=topic, priority="stat" if stat else priority, text=text)
    name, stored = new_id(), _answers(answers, patient, speaker)
    ticket: Json = {
        "resourceType": "Task",
        "id": name,
        "status": "requested",
        "intent": "order",
        "priority": "stat" if stat else priority,
        "code": coded(TASKS, TICKET),
        "focus": {"reference": f"Communication/{changes[0].id}"},
        **({"for": {"reference": patient}} if patient else {}),
        "authoredOn": instant_of(context.timers.now()),
        "requester": {"reference": speaker},
        "performerType": [coded(POOLS, pool)],
        **(
            {"input": [{"type": {"text": "answers"}, "valueReference": {"reference": f"{stored.type}/{stored.id}"}}]}
            if stored
            else {}
        ),
    }

    async def work(unit: Unit) -> list[Committed]:
        task = await timed(context, unit, ticket)
        first = [Change("POST", "Task", name, task, fresh=True, by="open-ticket"), changes[0]]
        made = await committed(context, unit, [*first, *([stored] if stored else [])])
        made += await committed(context, unit, changes[1:])
        for person in await people_of(unit, [pool]):
            await notify_within(context, unit, person, "ticket", f"Task/{name}", key=name)
        if stat:
            await page_within(context, unit, task)
        return made

    made = await written(context, work, "Task", "QuestionnaireResponse")
    rows: list[Json] = [{"name": "return", "resource": codec.decode(made[0].version.body or b"")}]
    if stat:
        rows.append({"name": "notice", "valueString": notice_of(flags)})
    answer = answered(parameters_of(*rows), 201)
    answer.headers["Location"] = f"{request.base_url}/Task/{name}/_history/1"
    answer.touched = touched_by(made)
    return answer


async def red_flag_questions(context: Context, request: Request) -> Answer:
    """Task/$red-flag-questions: the structured questions, as a Questionnaire."""
    Inputs.of(request).only()
    return Answer(200, codec.encode(codec.decode(QUESTIONS.read_bytes())))


def _answers(response: Json | None, patient: str | None, speaker: str) -> Change | None:
    """The answers to the structured questions, as they are stored."""
    if response is None:
        return None
    if response.get("resourceType") != "QuestionnaireResponse":
        raise UnprocessableError("'answers' is a QuestionnaireResponse.", key="HS-TICKET-ANSWERS")
    whole = {
        **response,
        **({"subject": {"reference": patient}} if patient else {}),
        "author": {"reference": speaker},
    }
    return Change("POST", "QuestionnaireResponse", new_id(), whole, fresh=True, by="open-ticket")
