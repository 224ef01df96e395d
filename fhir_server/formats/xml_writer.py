"""XML out: a resource as decoded from JSON becomes the bytes of its XML twin.

Definition-driven: the elements stand in the order of their definition, whatever the order in JSON. The text is joined
piece by piece; only narratives go through a parser, since they are markup already.

Spec: https://hl7.org/fhir/R4/xml.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lxml import etree

from fhir_server.formats import xhtml
from fhir_server.formats.shapes import Member, Shape, Shapes
from fhir_server.formats.xml_parser import Parsers
from fhir_server.formats.xml_text import UnwritableError, text_of
from fhir_server.model.codec import Json
from fhir_server.model.errors import NotAcceptableError
from profiles.registry import Registry

Append = Callable[[str], None]
#: Writes the value of one member, or an object's attributes and content up to its end tag.
Write = Callable[[Any, Append], None]

_parsers = Parsers()

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'
NAMESPACE = "http://hl7.org/fhir"


class XmlWriter:
    """Writes resources as XML; what it compiles per type is kept."""

    def __init__(self, registry: Registry) -> None:
        self._shapes = Shapes(registry)
        self._made: dict[str, Write] = {}
        self._resources: dict[str, Write] = {}
        self._element = self._writer(self._shapes.shape_of("Element"))

    def write(self, resource: Json, *, pretty: bool = False) -> bytes:
        """The XML document of a decoded resource, in UTF-8; `pretty` indents it by two spaces.

        Raises:
            NotAcceptableError: 406; it holds what XML cannot say (members that FHIR does not define, a narrative that
                is no XHTML). Resources that were validated hold nothing like that.
        """
        pieces = [DECLARATION]
        try:
            name, write = self._resource_writer(resource)
            pieces.append(f'<{name} xmlns="{NAMESPACE}"')
            write(resource, pieces.append)
        except UnwritableError as error:
            raise NotAcceptableError(
                f"The resource cannot be told in XML: found {error.found}; ask for application/fhir+json.",
                key="HS-XML-UNWRITABLE",
                expression=error.path,
            ) from None
        pieces.append(f"</{name}>")
        data = "".join(pieces).encode()
        return indented(data) if pretty else data

    def _resource_writer(self, value: Any) -> tuple[str, Write]:
        """The name of a resource's type, and what writes its content."""
        name = value.get("resourceType") if type(value) is dict else None
        if type(name) is not str or not self._shapes.is_resource_type(name):
            raise UnwritableError("something that is no resource")
        write = self._resources.get(name)
        if write is None:
            write = self._resources[name] = self._writer(self._shapes.shape_of(name))
        return name, write

    def _writer(self, shape: Shape) -> Write:
        """What writes the attributes, the `>` and the children of an object."""
        known = self._made.get(shape.name)
        if known is not None:
            return known
        rows: dict[str, tuple[int, Write]] = {}
        get = rows.get
        aside = frozenset(("resourceType",)) if shape.is_resource else frozenset(shape.attributes)
        attributes = shape.attributes
        unusual = self._unusual(shape, aside)
        pending = True

        def write(value: Any, append: Append) -> None:
            nonlocal pending
            if pending:
                rows.update((name, (member.rank, self._member(member))) for name, member in shape.members.items())
                pending = False
            if type(value) is not dict:
                raise UnwritableError("a value where an object belongs")
            for name in attributes:
                if name in value:
                    append(f' {name}="{text_of(value[name])}"')
            append(">")
            last = -1
            for name in value:
                row = get(name)
                if row is None:
                    if name not in aside:
                        break
                elif row[0] < last:
                    break
                else:
                    last = row[0]
            else:
                for name, child in value.items():
                    row = get(name)
                    if row is not None:
                        try:
                            row[1](child, append)
                        except UnwritableError as error:
                            raise error.under(name) from None
                return
            unusual(value, append)

        self._made[shape.name] = write
        return write

    def _unusual(self, shape: Shape, aside: frozenset[str]) -> Write:
        """Writes the children of an object that has underscored members, or its members in another order."""
        usual: dict[str, Write] = {}
        twinned: dict[str, Callable[[Any, Any, Append], None]] = {}

        def write(value: Json, append: Append) -> None:
            found: dict[str, Member] = {}
            for name in value:
                if name in aside:
                    continue
                plain = name[1:] if name[:1] == "_" else name
                member = shape.members.get(plain)
                if member is None or (plain is not name and member.kind != "primitive"):
                    raise UnwritableError("a member that FHIR does not define").under(name)
                found[plain] = member
            for name, member in sorted(found.items(), key=lambda item: item[1].rank):
                twin = value.get(f"_{name}")
                try:
                    if twin is None:
                        if name not in usual:
                            usual[name] = self._member(member)
                        usual[name](value.get(name), append)
                    else:
                        if name not in twinned:
                            twinned[name] = self._twinned(member)
                        twinned[name](value.get(name), twin, append)
                except UnwritableError as error:
                    raise error.under(name) from None

        return write

    def _member(self, member: Member) -> Write:
        match member.kind:
            case "primitive":
                one = _primitive(member.name)
            case "xhtml":
                one = _div
            case "resource":
                one = self._inline(member.name)
            case _:
                assert member.shape is not None
                one = _complex(member.name, self._writer(member.shape))
        return _repeated(one) if member.many else one

    def _inline(self, name: str) -> Write:
        """A resource inside an element; its own element is named like its type."""

        def write(value: Any, append: Append) -> None:
            resource_type, content = self._resource_writer(value)
            append(f"<{name}><{resource_type}")
            content(value, append)
            append(f"</{resource_type}></{name}>")

        return write

    def _twinned(self, member: Member) -> Callable[[Any, Any, Append], None]:
        """Writes a primitive with its Element, or the primitives of an array with theirs."""
        element, start, end = self._element, f"<{member.name}", f"</{member.name}>"

        def one(value: Any, twin: Any, append: Append) -> None:
            if value is None and not twin:
                raise UnwritableError("null without an Element beside it")
            append(start if value is None else f'{start} value="{text_of(value)}"')
            if twin is not None:
                element(twin, append)
                append(end)
            else:
                append("/>")

        def several(values: Any, twins: Any, append: Append) -> None:
            values = [] if values is None else values
            if type(values) is not list or type(twins) is not list:
                raise UnwritableError("a value where an array belongs")
            for index in range(max(len(values), len(twins))):
                value = values[index] if index < len(values) else None
                one(value, twins[index] if index < len(twins) else None, append)

        return several if member.many else one


def _primitive(name: str) -> Write:
    start = f'<{name} value="'

    def write(value: Any, append: Append) -> None:
        append(f'{start}{text_of(value)}"/>')

    return write


def _complex(name: str, content: Write) -> Write:
    start, end = f"<{name}", f"</{name}>"

    def write(value: Any, append: Append) -> None:
        append(start)
        content(value, append)
        append(end)

    return write


def _repeated(one: Write) -> Write:
    def write(value: Any, append: Append) -> None:
        if type(value) is not list:
            raise UnwritableError("a value where an array belongs")
        for item in value:
            one(item, append)

    return write


def _div(value: Any, append: Append) -> None:
    if type(value) is not str:
        raise UnwritableError("a narrative that is no text")
    try:
        append(xhtml.canonical(xhtml.parsed(value)))
    except xhtml.XhtmlError as error:
        raise UnwritableError(str(error)) from None


def indented(data: bytes) -> bytes:
    """The same document, each element on a line of its own; narratives stay as they are."""
    root = etree.fromstring(data, _parsers.document)
    _indent(root, "\n")
    return DECLARATION.encode() + b"\n" + bytes(etree.tostring(root, encoding="UTF-8")) + b"\n"


def _indent(element: Any, line: str) -> None:
    if len(element) == 0 or element.tag == xhtml.DIV:
        return
    deeper = f"{line}  "
    element.text = deeper
    child = None
    for child in element:
        child.tail = deeper
        _indent(child, deeper)
    if child is not None:
        child.tail = line
