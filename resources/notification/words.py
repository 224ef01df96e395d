"""What there is to tell, and the words for it: that there is something to look at, and nothing of anybody's health."""

from __future__ import annotations

from fhir_server.interactions.outlets import Letter

#: Kinds that wait for no quiet hours to end.
URGENT = frozenset({"alarm"})

#: All that is told; the kinds of which there are letters, `*` for the others. `docs/operations-chat.md` explains them.
KINDS = (
    "alarm",
    "alert",
    "appointment-asked",
    "appointment-booked",
    "appointment-cancelled",
    "appointment-moved",
    "appointment-offered",
    "appointment-reminder",
    "document-refused",
    "document-review",
    "erasure-refused",
    "export-ready",
    "licence-ended",
    "licence-ends",
    "message",
    "prescription-failed",
    "prescription-given-back",
    "prescription-not-collected",
    "prescription-refused",
    "prescription-stock",
    "prescription-transferred",
    "prescription-withdrawal-refused",
    "prescription-withdrawn",
    "ticket",
    "ticket-late",
    "verification",
    "waitlist-offer",
)

#: The title and the text of each kind, by language; what is not named here is told as `*`.
WORDS = {
    "en": {
        "message": ("New message", "You have a new message."),
        "ticket": ("A question waits", "A question waits for an answer."),
        "alarm": ("Urgent: please look at once", "Something waits that cannot wait. Please look at once."),
        "appointment": ("Your appointment", "There is news about an appointment."),
        "reminder": ("Reminder", "There is something to remember."),
        "waitlist": ("A time is free", "A time for which you wait is free. It is held for you for a while."),
        "document": ("A document", "There is news about a document."),
        "export": ("Your archive", "The archive that you asked for is ready."),
        "erasure": ("Your request", "Your request was decided on."),
        "licence": ("Your licence", "Your licence ends soon, or has ended. Please hand in a new one."),
        "verification": ("Your application", "There is news about the verification of what you have handed in."),
        "*": ("Something new", "There is something new for you."),
    },
    "de": {
        "message": ("Neue Nachricht", "Sie haben eine neue Nachricht."),
        "ticket": ("Eine Anfrage wartet", "Eine Anfrage wartet auf Antwort."),
        "alarm": (
            "Dringend: bitte sofort ansehen",
            "Es gibt etwas, das nicht warten kann. Bitte sehen Sie sofort nach.",
        ),
        "appointment": ("Ihr Termin", "Es gibt Neues zu einem Termin."),
        "reminder": ("Erinnerung", "Es gibt etwas, woran wir Sie erinnern."),
        "waitlist": (
            "Ein Termin ist frei",
            "Ein Termin, auf den Sie warten, ist frei. Er ist eine Weile für Sie reserviert.",
        ),
        "document": ("Ein Dokument", "Es gibt Neues zu einem Dokument."),
        "export": ("Ihr Archiv", "Das Archiv, um das Sie gebeten haben, ist fertig."),
        "erasure": ("Ihre Anfrage", "Über Ihre Anfrage wurde entschieden."),
        "licence": (
            "Ihre Zulassung",
            "Ihre Zulassung läuft bald ab oder ist abgelaufen. Bitte reichen Sie eine neue ein.",
        ),
        "verification": ("Ihr Antrag", "Es gibt Neues zur Prüfung dessen, was Sie eingereicht haben."),
        "*": ("Etwas Neues", "Es gibt etwas Neues für Sie."),
    },
}


def letter_of(kind: str, language: str, key: str) -> Letter:
    """The letter for something of a kind; what a part calls `appointment-booked` is told as `appointment`."""
    words = WORDS.get(language, WORDS["en"])
    title, text = words.get(kind) or words.get(kind.partition("-")[0]) or words["*"]
    return Letter(key, title, text, urgent=kind in URGENT)
