"""The few members of Bundles and resources that a loader must see; all else stays unread bytes.

Spec: https://hl7.org/fhir/R4/bundle.html
"""

from __future__ import annotations

import msgspec


class Head(msgspec.Struct, rename="camel"):
    """Who a resource is."""

    resource_type: str = ""
    id: str | None = None


class Request(msgspec.Struct, rename="camel"):
    method: str = ""
    url: str = ""
    if_none_exist: str | None = None


class Search(msgspec.Struct):
    mode: str | None = None


class Entry(msgspec.Struct, rename="camel"):
    full_url: str | None = None
    resource: Head | None = None
    request: Request | None = None
    search: Search | None = None


class Bundle(msgspec.Struct, rename="camel"):
    type: str = ""
    entry: list[Entry] = []


class RawEntry(msgspec.Struct):
    resource: msgspec.Raw = msgspec.Raw()


class RawResources(msgspec.Struct):
    """A Bundle whose resources are wanted as bytes."""

    entry: list[RawEntry] = []


class RawEntries(msgspec.Struct):
    """A Bundle whose entries are wanted as bytes."""

    entry: list[msgspec.Raw] = []


class Issue(msgspec.Struct):
    severity: str = "error"
    code: str = ""
    diagnostics: str | None = None
    expression: list[str] = []


class Outcome(msgspec.Struct):
    issue: list[Issue] = []


class Response(msgspec.Struct):
    status: str = ""
    outcome: Outcome | None = None


class AnswerEntry(msgspec.Struct):
    response: Response = msgspec.field(default_factory=Response)


class AnswerBundle(msgspec.Struct):
    """A `transaction-response` or `batch-response`."""

    entry: list[AnswerEntry] = []


head_decoder = msgspec.json.Decoder(Head)
bundle_decoder = msgspec.json.Decoder(Bundle)
raw_resources_decoder = msgspec.json.Decoder(RawResources)
raw_entries_decoder = msgspec.json.Decoder(RawEntries)
answer_decoder = msgspec.json.Decoder(AnswerBundle)
outcome_decoder = msgspec.json.Decoder(Outcome)
