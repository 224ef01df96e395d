"""XML Patch: add, replace and remove of nodes that selectors name, on the XML form of a resource.

Spec: https://www.rfc-editor.org/rfc/rfc5261, https://hl7.org/fhir/R4/http.html#patch
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from lxml import etree

from fhir_server.formats.xml_reader import XmlReader
from fhir_server.formats.xml_writer import XmlWriter
from fhir_server.model import codec
from fhir_server.model.errors import FhirError, InvalidError, Issue
from fhir_server.patching import nodes
from fhir_server.patching.document import Json, same_resource
from fhir_server.patching.fault import MOST_OPERATIONS, malformed, too_many, unfit
from fhir_server.patching.selector import Selector, selector_of
from profiles.registry import Registry

Name = Literal["add", "replace", "remove"]
NAMES: tuple[str, ...] = get_args(Name)
POSITIONS = (None, "prepend", "before", "after")
BLANKS = (None, "before", "after", "both")


class XmlForm:
    """Turns resources of some definitions to XML and back; what it compiles per type is kept."""

    def __init__(self, registry: Registry) -> None:
        self._reader = XmlReader(registry)
        self._writer = XmlWriter(registry)

    def tree_of(self, resource: Json) -> Any:
        return nodes.parsed(self._writer.write(resource), "The resource", trusted=True)

    def resource_of(self, root: Any) -> Json:
        return self._reader.read(etree.tostring(root, encoding="utf-8"))

    def spellings(self, resource: Json, root: Any) -> dict[str, str]:
        """The narratives of a resource as they are spelt in it, by how they come back from XML."""
        before = _narratives(resource)
        after = _narratives(self.resource_of(root)) if before else {}
        return {after[path]: text for path, text in before.items() if path in after}


def _narratives(resource: Json) -> dict[str, str]:
    return {path: node["div"] for node, path in codec.walk(resource) if type(node.get("div")) is str}


def xml_form(registry: Registry) -> XmlForm:
    """The XML form of a registry's resources, kept with it."""
    return registry.shared(XmlForm)()


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, read; `node` holds what is added or put in place, as the children and text of an element."""

    index: int
    name: Name
    selector: Selector
    node: Any
    kind: str = ""
    position: str | None = None
    blanks: str | None = None

    def __str__(self) -> str:
        return f"Operation {self.index} ({self.name} {self.selector.text[:200]!r})"


@dataclass(frozen=True, slots=True)
class XmlPatch:
    """The operations of one patch, and what turns resources to the XML that they work on."""

    operations: tuple[Operation, ...]
    form: XmlForm

    def apply(self, resource: Json) -> Json:
        """The resource with all operations carried out, one after the other.

        Raises:
            UnprocessableError: 422; a selector finds no node or several, or it would be another resource then.
            InvalidError: 400; what comes out is no resource.
        """
        tree = self.form.tree_of(resource)
        spellings = self.form.spellings(resource, tree)
        root = patched(tree, self.operations)
        nodes.drop_empty(root)
        if (name := etree.QName(root).localname) != resource["resourceType"]:
            return same_resource(resource, {"resourceType": name})
        result = self.form.resource_of(root)
        for node, _ in codec.walk(result):
            if (text := node.get("div")) in spellings:
                node["div"] = spellings[text]
        return same_resource(resource, result)

    def linked(self, rewrite: Callable[[Json], bool]) -> XmlPatch:
        """The patch with the links in its values rewritten, each judged by the element that has it."""
        operations = []
        for old in self.operations:
            node = deepcopy(old.node)
            for element in node.iterdescendants(tag=etree.Element):
                name = etree.QName(element).localname
                for attribute in ("value", "url"):
                    if (text := element.get(attribute)) is not None:
                        element.set(attribute, _rewritten(name if attribute == "value" else "url", text, rewrite))
            if len(node) == 0 and node.text:
                node.text = _rewritten(old.selector.element, node.text, rewrite)
            operations.append(replace(old, node=node))
        return replace(self, operations=tuple(operations))


def _rewritten(name: str, text: str, rewrite: Callable[[Json], bool]) -> str:
    holder = {name: text}
    rewrite(holder)
    return holder[name]


def xml_patch_of(data: bytes, form: XmlForm) -> XmlPatch:
    """Read a patch of resources.

    Raises: as `operations_of`.
    """
    return XmlPatch(operations_of(data), form)


def operations_of(data: bytes) -> tuple[Operation, ...]:
    """The operations of a patch, in order.

    Raises:
        InvalidError: 400; not XML, or an operation cannot be read; the message tells which.
        TooLargeError: 413; there are too many operations.
    """
    root = nodes.parsed(data, "The patch")
    rows = list(root.iterchildren(tag=etree.Element))
    if not rows:
        raise malformed("The patch has no operation; add, replace and remove were expected below its root.")
    if len(rows) > MOST_OPERATIONS:
        raise too_many(len(rows))
    return tuple(_operation_of(row, index) for index, row in enumerate(rows))


def _operation_of(row: Any, index: int) -> Operation:
    name = etree.QName(row).localname
    if name not in NAMES:
        raise malformed(f"Operation {index} is {name[:80]!r}; expected one of {', '.join(NAMES)}.")
    text = row.get("sel")
    if text is None:
        raise malformed(f"Operation {index} ({name}) has no selector `sel`.")
    try:
        selector = selector_of(text, row.nsmap)
    except InvalidError as error:
        raise InvalidError([_numbered(issue, f"Operation {index}") for issue in error.issues]) from None
    position, blanks, kind = row.get("pos"), row.get("ws"), row.get("type", "")
    if position not in POSITIONS or blanks not in BLANKS:
        raise malformed(f"Operation {index}: `pos` is {position!r} and `ws` is {blanks!r}; one of them is not known.")
    if kind and not kind.startswith(("@", "namespace::")):
        raise malformed(f"Operation {index}: `type` is {kind[:80]!r}; expected @name or namespace::prefix.")
    return Operation(index, name, selector, row, kind, position, blanks)


def patched(root: Any, operations: tuple[Operation, ...]) -> Any:
    """Carry out operations on a tree, and give its root, which may be a new one.

    Raises:
        UnprocessableError: 422; the first operation that cannot be carried out.
    """
    for operation in operations:
        try:
            root = _CARRY_OUT[operation.name](operation, root)
        except FhirError as error:
            raise type(error)([_numbered(issue, str(operation)) for issue in error.issues]) from None
    return root


def patched_document(target: bytes, patch: bytes) -> bytes:
    """A whole XML document, patched.

    Raises:
        InvalidError: 400; one of the two is no XML document.
        UnprocessableError: 422; the first operation that cannot be carried out.
    """
    root = patched(nodes.parsed(target, "The document"), operations_of(patch))
    result: bytes = etree.tostring(root, encoding="utf-8")
    return result


def _numbered(issue: Issue, operation: str) -> Issue:
    return Issue(issue.code, f"{operation}: {issue.diagnostics}", issue.expression, issue.key, issue.severity)


# --- carrying out ---------------------------------------------------------------------------------------------------


def _add(operation: Operation, root: Any) -> Any:
    target = operation.selector.node(root)
    if operation.kind or operation.position in (None, "prepend"):
        nodes.require_element(target)
    if operation.kind.startswith("@"):
        name = nodes.attribute_name(operation.kind[1:], operation.node.nsmap)
        nodes.add_attribute(target, name, operation.node.text or "")
        return root
    if operation.kind:
        prefix = operation.kind.removeprefix("namespace::")
        return nodes.declared(root, target, prefix, operation.node.text or "")
    content = nodes.content_of(operation.node)
    if operation.position in ("before", "after"):
        nodes.require_inside(target, root)
        nodes.insert_beside(target, content, after=operation.position == "after")
    else:
        nodes.insert_inside(target, content, first=operation.position == "prepend")
    return root


def _replace(operation: Operation, root: Any) -> Any:
    target = operation.selector.node(root)
    content = nodes.content_of(operation.node)
    if operation.selector.namespace is not None:
        return nodes.declared(root, target, operation.selector.namespace, content.text, must_exist=True)
    if nodes.is_string(target):
        if content.nodes:
            raise unfit("a text or an attribute can be replaced by text alone.")
        nodes.set_string(target, content.text)
        return root
    if len(content.nodes) != 1 or content.text.strip() or not nodes.same_kind(content.nodes[0], target):
        raise unfit("one node of the same kind was expected in its place.")
    return nodes.put_in_place(root, target, content.nodes[0])


def _remove(operation: Operation, root: Any) -> Any:
    target = operation.selector.node(root)
    if operation.selector.namespace is not None:
        return nodes.declared(root, target, operation.selector.namespace, None, must_exist=True)
    if nodes.is_string(target):
        nodes.set_string(target, None)
        return root
    nodes.require_inside(target, root)
    nodes.take_out(target, operation.blanks)
    return root


_CARRY_OUT = {"add": _add, "replace": _replace, "remove": _remove}
