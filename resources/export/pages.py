"""Pages for people: an index, and one page for each type of resource, that print well and do nothing.

No script, no address of elsewhere; everything that comes from a record is escaped.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from resources.document.telling import amount, concept, medicine, name_of, span

Json = dict[str, Any]

HEAD: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width"><title>{title}</title><style>
body {{ font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; vertical-align: top; padding: .3rem .6rem;
border-bottom: 1px solid #999; }} caption {{ text-align: left; }} tr {{ break-inside: avoid; }}
@media print {{ body {{ margin: 0; max-width: none; }} nav {{ display: none; }} }}
</style></head><body>
"""
FOOT: Final = "</body></html>\n"

#: Where the moment of a resource stands, by what comes first.
MOMENTS: Final = (
    "effectiveDateTime", "effectivePeriod", "performedDateTime", "performedPeriod", "occurrenceDateTime",
    "onsetDateTime", "period", "start", "date", "authoredOn", "recordedDate", "recorded", "sent", "created",
    "whenHandedOver", "started", "dateTime", "birthDate",
)  # fmt: skip

#: What a resource is about, by what comes first.
NAMES: Final = (
    "code", "type", "vaccineCode", "category", "serviceType", "class", "scope", "reasonCode",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Page:
    """The page of a type."""

    type: str
    count: int

    @property
    def path(self) -> str:
        return f"pages/{self.type}.html"


async def type_page(page: Page, resources: AsyncIterator[Json]) -> AsyncIterator[str]:
    """A page with a row for each resource, piece by piece."""
    yield HEAD.format(title=escape(page.type))
    yield f'<nav><a href="../index.html">All</a></nav><h1>{escape(page.type)}</h1><table>'
    yield "<thead><tr><th>When</th><th>What</th><th>More</th><th>Status</th></tr></thead><tbody>\n"
    async for resource in resources:
        cells = (when(resource), what(resource), more(resource), status(resource))
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>\n"
    yield "</tbody></table>" + FOOT


def index_page(manifest: Json, pages: Sequence[Page]) -> str:
    """The first page: what there is, the documents, and what is not there."""
    rows = "".join(f'<li><a href="{escape(page.path)}">{escape(page.type)}</a>: {page.count:,}</li>' for page in pages)
    documents = "".join(
        f'<li><a href="{escape(row["path"])}">{escape(row["path"].partition("/")[2])}</a> '
        f"({escape(row['type'])}, {row['size']:,} bytes)</li>"
        for row in manifest["documents"]
    )
    missing = "".join(f"<li>{escape(name)}</li>" for name in manifest["withheld"])
    return (
        HEAD.format(title="My health record")
        + f"<h1>My health record</h1><p>{escape(manifest['patient'])}, as it was on {escape(manifest['made'])}.</p>"
        + f"<h2>By kind</h2><ul>{rows}</ul>"
        + (f"<h2>Documents</h2><ul>{documents}</ul>" if documents else "")
        + (f"<h2>In quarantine, and therefore not here</h2><ul>{missing}</ul>" if missing else "")
        + "<h2>For programs</h2><p>The folder fhir has the same as FHIR R4, one resource on each line; manifest.json "
        "tells what is there.</p>" + FOOT
    )


def when(resource: Json) -> str:
    return next((text for name in MOMENTS if (text := span(resource.get(name)))), "")


def what(resource: Json) -> str:
    if resource["resourceType"].startswith("Medication"):
        return medicine(resource)
    for name in NAMES:
        value = resource.get(name)
        text = concept(value[0] if isinstance(value, list) and value else value)
        if text:
            return text
    return str(resource.get("description") or resource.get("title") or name_of(resource))


def more(resource: Json) -> str:
    parts = [amount(resource), str(resource.get("description", ""))]
    parts += [str(note.get("text", "")) for note in resource.get("note", []) if isinstance(note, dict)]
    parts += [str(row.get("contentString", "")) for row in resource.get("payload", []) if isinstance(row, dict)]
    return "; ".join(dict.fromkeys(part for part in parts if part))


def status(resource: Json) -> str:
    value = resource.get("status") or resource.get("clinicalStatus") or ""
    return value if isinstance(value, str) else concept(value)
