"""XML in: a document becomes the very dict that its JSON twin would be decoded to.

Definition-driven: the elements of each type, their order, and whether they repeat come from the element tables. What
they do not know is refused with its line and place. No document type is read, so there are no entities to expand and
nothing to fetch.

Spec: https://hl7.org/fhir/R4/xml.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lxml import etree

from fhir_server.formats import xhtml
from fhir_server.formats.shapes import Member, Shape, Shapes
from fhir_server.formats.xml_fault import FHIR, PREFIX, fault, local, unreadable
from fhir_server.formats.xml_parser import Parsers
from fhir_server.formats.xml_prolog import document_type, without_prolog_faults
from fhir_server.formats.xml_values import CONVERSIONS
from fhir_server.model.codec import MAX_DEPTH, Json
from fhir_server.model.errors import InvalidError, TooLargeError
from profiles.registry import Registry

Read = Callable[[Any, int], Json]
#: rank, name in JSON, whether it repeats, whether it is a primitive, what reads it (None: a string as it is).
Row = tuple[int, str, bool, bool, Callable[..., Any] | None]

XSI = "{http://www.w3.org/2001/XMLSchema-instance}"
BLANK = " \t\r\n"

#: A tree takes about ten times the bytes of its document.
MAX_BYTES = 64 * 1024 * 1024


class XmlReader:
    """Reads resources in XML; what it compiles per type is kept."""

    def __init__(self, registry: Registry, *, max_bytes: int = MAX_BYTES) -> None:
        self._shapes = Shapes(registry)
        self._max_bytes = max_bytes
        self._parsers = Parsers()
        self._made: dict[int, tuple[Shape, Read]] = {}
        self._element = self._reader(self._shapes.shape_of("Element"), ignored="value")

    def read(self, data: bytes) -> Json:
        """The resource of an XML document as decoded JSON.

        Raises:
            InvalidError: 400; not XML, or XML that is no FHIR resource; the line and the FHIRPath are told.
            TooLargeError: 413; more bytes than are made into a tree.
        """
        if len(data) > self._max_bytes:
            raise TooLargeError(
                f"The XML has {len(data):,} bytes; this server reads {self._max_bytes:,} at once. JSON may be larger.",
                key="HS-XML-SIZE",
            )
        data = without_prolog_faults(data)
        try:
            root = etree.fromstring(data, self._parsers.document)
        except etree.XMLSyntaxError as error:
            raise unreadable(error) from None
        if root.getroottree().docinfo.internalDTD is not None:
            raise document_type(root.sourceline)
        if not root.tag.startswith(PREFIX):
            raise fault(
                self._shapes,
                root,
                "HS-XML-NAMESPACE",
                f"the root element is {root.tag[:100]!r}; expected a resource in the namespace {FHIR}",
            )
        for beside in (*root.itersiblings(), *root.itersiblings(preceding=True)):
            if beside.tag is not etree.Comment:
                raise self._instruction(beside)
        try:
            return self._resource(root, 1)
        except RecursionError:
            raise _too_deep() from None

    def _resource(self, element: Any, depth: int) -> Json:
        """A resource; its element is named like its type."""
        name = local(element.tag)
        if not self._shapes.is_resource_type(name):
            raise fault(
                self._shapes, element, "HS-XML-RESOURCE", f"found the element {name[:80]!r}; expected a FHIR resource"
            )
        return {"resourceType": name, **self._reader(self._shapes.shape_of(name))(element, depth)}

    def _reader(self, shape: Shape, ignored: str | None = None) -> Read:
        known = self._made.get(id(shape))
        if known is not None:
            return known[1]
        rows: dict[str, Row] = {}
        attributes = shape.attributes
        may_be_empty = shape.is_resource or ignored is not None
        nested_first = shape.name == "Extension"
        get = rows.get
        pending = True

        def read(element: Any, depth: int) -> Json:
            nonlocal pending
            if pending:
                rows.update((tag_of(member), self._row(member)) for member in shape.members.values())
                pending = False
            if depth > MAX_DEPTH:
                raise _too_deep()
            result: Json = {}
            for key, value in element.items():
                if key in attributes:
                    result[key] = value
                elif key != ignored and not (shape.is_resource and key.startswith(XSI)):
                    raise self._attribute(element, key)
            if len(result) > 1:
                result = {name: result[name] for name in attributes}
            text = element.text
            if text is not None and text.strip(BLANK):
                raise self._text(element, text)
            last = -1
            twinned: list[str] | None = None
            for child in element:
                row = get(child.tag)
                text = child.tail
                if text is not None and text.strip(BLANK):
                    raise self._text(element, text)
                if row is None:
                    self._check_comment(child, shape)
                    continue
                rank, name, many, primitive, convert = row
                if rank <= last and (rank < last or not many):
                    raise self._order(child, rank == last)
                last = rank
                twin = None
                if not primitive:
                    assert convert is not None
                    value = convert(child, depth + 1)
                else:
                    items = child.items()
                    if len(items) == 1 and items[0][0] == "value" and len(child) == 0 and child.text is None:
                        value = items[0][1]
                    else:
                        value, twin = self._twinned(child, depth)
                    if convert is not None and value is not None:
                        value = self._converted(convert, child, value)
                if not many:
                    if value is not None:
                        result[name] = value
                    if twin:
                        result[f"_{name}"] = twin
                    continue
                array = result.get(name)
                if array is None:
                    array = result[name] = []
                array.append(value)
                if twin:
                    twins = result.setdefault(f"_{name}", [])
                    twins += [None] * (len(array) - 1 - len(twins))
                    twins.append(twin)
                    if twinned is None:
                        twinned = [name]
                    elif twinned[-1] != name:
                        twinned.append(name)
            if twinned is not None:
                _even_out(result, twinned)
            if not result and not may_be_empty:
                raise self._empty(element)
            if nested_first and "extension" in result and "url" in result:
                result["url"] = result.pop("url")
            return result

        self._made[id(shape)] = (shape, read)
        return read

    def _row(self, member: Member) -> Row:
        convert: Callable[..., Any] | None
        match member.kind:
            case "primitive":
                convert = CONVERSIONS.get(member.type)
            case "resource":
                convert = self._inline
            case "xhtml":
                convert = self._div
            case _:
                assert member.shape is not None
                convert = self._reader(member.shape)
        return member.rank, member.name, member.many, member.kind == "primitive", convert

    def _inline(self, element: Any, depth: int) -> Json:
        """The one resource inside an element (`contained`, `resource`, `outcome`)."""
        found = [child for child in element if child.tag is not etree.Comment]
        if len(found) != 1 or not isinstance(found[0].tag, str) or not found[0].tag.startswith(PREFIX):
            raise fault(
                self._shapes,
                element,
                "HS-XML-RESOURCE",
                f"found {len(found)} things in {local(element.tag)!r}; expected one FHIR resource",
            )
        if element.items():
            raise self._attribute(element, element.keys()[0])
        for text in (element.text, *(child.tail for child in element)):
            if text is not None and text.strip(BLANK):
                raise self._text(element, text)
        return self._resource(found[0], depth + 1)

    def _div(self, element: Any, depth: int) -> str:
        try:
            return xhtml.canonical(element)
        except xhtml.XhtmlError as error:
            raise fault(
                self._shapes, element, "HS-XML-NARRATIVE", f"found {error} in the narrative; expected XHTML alone"
            ) from None

    def _twinned(self, element: Any, depth: int) -> tuple[str | None, Json]:
        """The value of a primitive that has more than a value, and what stands behind the underscore in JSON."""
        value = element.get("value")
        twin = self._element(element, depth + 1)
        if value is None and not twin:
            raise self._empty(element)
        return value, twin

    def _converted(self, convert: Callable[[str], Any], element: Any, text: str) -> Any:
        try:
            return convert(text)
        except ValueError as error:
            raise fault(
                self._shapes, element, "HS-XML-VALUE", f"found the value {text[:60]!r}; expected {error}", code="value"
            ) from None

    def _check_comment(self, node: Any, shape: Shape) -> None:
        """A comment is passed over; all else that no element table knows is refused."""
        if node.tag is etree.Comment:
            return
        if not isinstance(node.tag, str):
            raise self._instruction(node)
        if not node.tag.startswith(PREFIX):
            raise fault(
                self._shapes,
                node,
                "HS-XML-NAMESPACE",
                f"found the element {node.tag[:100]!r}; expected elements of the namespace {FHIR} alone",
            )
        raise fault(
            self._shapes,
            node,
            "HS-XML-ELEMENT",
            f"found the element {local(node.tag)[:80]!r}; expected an element that {shape.name} has",
        )

    def _instruction(self, node: Any) -> InvalidError:
        what = "a processing instruction" if node.tag is etree.ProcessingInstruction else "an entity"
        return InvalidError(
            f"Line {node.sourceline}: found {what} ({str(node)[:60]}); expected elements alone.",
            code="structure",
            key="HS-XML-INSTRUCTION",
        )

    def _attribute(self, element: Any, key: str) -> InvalidError:
        return fault(
            self._shapes,
            element,
            "HS-XML-ATTRIBUTE",
            f"found the attribute {key[:80]!r} at {local(element.tag)!r}; expected only those that FHIR defines here",
        )

    def _text(self, element: Any, text: str) -> InvalidError:
        return fault(
            self._shapes,
            element,
            "HS-XML-TEXT",
            f"found the text {text.strip(BLANK)[:60]!r} in {local(element.tag)!r}; values stand in the attribute value",
        )

    def _order(self, element: Any, twice: bool) -> InvalidError:
        name = local(element.tag)
        found = f"{name!r} stands a second time" if twice else f"{name!r} comes too late"
        expected = "expected it once" if twice else "expected the elements in the order of their definition"
        return fault(self._shapes, element, "HS-XML-ORDER", f"{found}; {expected}")

    def _empty(self, element: Any) -> InvalidError:
        return fault(
            self._shapes,
            element,
            "HS-XML-EMPTY",
            f"the element {local(element.tag)!r} is empty; expected a value or children",
        )


def tag_of(member: Member) -> str:
    return xhtml.DIV if member.kind == "xhtml" else f"{PREFIX}{member.name}"


def _even_out(result: Json, names: list[str]) -> None:
    """Fill twin arrays up to the length of their arrays; an array without any value is left out."""
    for name in names:
        values, twins = result[name], result[f"_{name}"]
        twins += [None] * (len(values) - len(twins))
        if all(value is None for value in values):
            del result[name]


def _too_deep() -> InvalidError:
    return InvalidError(
        f"The document is nested deeper than {MAX_DEPTH} levels.", code="too-costly", key="HS-XML-DEPTH"
    )
