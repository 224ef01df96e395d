"""The selectors of XML Patch: a small part of XPath that leads straight to one node.

Only what RFC 5261 allows is read, and paths inside predicates, which FHIR needs since its values are attributes:
`f:Patient/f:identifier[f:system/@value='urn:x'][1]/f:value/@value`. Names without a prefix are in the default namespace
of the patch. Nothing here can walk over a document again and again, as `//` could.

Spec: https://www.rfc-editor.org/rfc/rfc5261#section-4.1
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from lxml import etree

from fhir_server.patching.fault import lost, malformed

FHIR = "http://hl7.org/fhir"
XHTML = "http://www.w3.org/1999/xhtml"

#: What these prefixes mean where a patch does not declare them; the specification's own examples leave that out.
USUAL = {"f": FHIR, "fhir": FHIR, "h": XHTML, "xhtml": XHTML}

_DEFAULT = "default-namespace"
_TOKEN = re.compile(
    r"""\s*(?:(?P<literal>"[^"]*"|'[^']*')
    |(?P<function>(?:text|comment|node|processing-instruction|last|position)\s*\()
    |(?P<axis>(?:child|attribute|namespace)\s*::)
    |(?P<name>(?:[^\W\d][\w.\-]*:)?(?:[^\W\d][\w.\-]*|\*))
    |(?P<number>[0-9]{1,9})
    |(?P<symbol>[/@.=\[\])*]))""",
    re.VERBOSE,
)
_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Selector:
    """A selector, checked and made ready.

    `xpath` has a prefix at every name; `namespace` is the prefix whose declaration is meant, for `namespace::pref`.
    """

    text: str
    xpath: etree.XPath
    namespace: str | None
    element: str

    def node(self, root: Any) -> Any:
        """The one node that it selects: an element, comment or instruction, or a string of lxml that knows its parent.

        Raises:
            UnprocessableError: 422; it selects none, or several.
        """
        nodes = self.xpath(root.getroottree())
        if len(nodes) != 1:
            found = f"{len(nodes)} nodes" if nodes else "nothing"
            raise lost(f"the selector {self.text!r} finds {found}; one node was expected.")
        return nodes[0]


def selector_of(text: str, namespaces: dict[str | None, str]) -> Selector:
    """Read a selector by the namespaces that are declared where it stands.

    Raises:
        InvalidError: 400; it is none, or more of XPath than is allowed.
    """
    prefixes = {**USUAL, **{prefix: uri for prefix, uri in namespaces.items() if prefix is not None}}
    if None in namespaces:
        prefixes[_DEFAULT] = namespaces[None]
    reader = _Reader(text.strip(), prefixes, None in namespaces)
    expression, namespace = reader.path()
    try:
        return Selector(text, etree.XPath(expression, namespaces=prefixes), namespace, reader.element)
    except etree.XPathSyntaxError:
        raise reader.refused("it is no path") from None


class _Reader:
    """Reads the grammar from left to right and writes the same path with all prefixes."""

    def __init__(self, text: str, prefixes: dict[str, str], has_default: bool) -> None:
        self._text = text
        self._prefixes = prefixes
        self._has_default = has_default
        self._at = 0
        self._kind = ""
        self._word = ""
        #: The local name of the last element on the way.
        self.element = ""
        if len(text) > _LONGEST:
            raise self.refused(f"it is longer than {_LONGEST} characters")
        self._advance()

    def refused(self, reason: str) -> Exception:
        return malformed(f"The selector {self._text[:200]!r} cannot be used: {reason}.")

    def _advance(self) -> None:
        if not self._text[self._at :].strip():
            self._kind = self._word = ""
            return
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            raise self.refused(f"{self._text[self._at : self._at + 20]!r} is not expected there")
        self._at = match.end()
        self._kind = match.lastgroup or ""
        self._word = re.sub(r"\s", "", match.group(self._kind)) if self._kind != "literal" else match.group("literal")

    def _take(self, word: str) -> bool:
        if self._word != word or self._kind == "literal":
            return False
        self._advance()
        return True

    def path(self) -> tuple[str, str | None]:
        """The whole path from the document down."""
        self._take("/")
        steps = []
        namespace = None
        while True:
            if self._take("namespace::"):
                namespace = self._word
                self._advance()
                break
            steps.append(self._step(predicates=True))
            if not self._take("/"):
                break
        if self._kind:
            raise self.refused(f"{self._word!r} is not expected there")
        if not steps:
            raise self.refused("it names no element")
        return "/" + "/".join(steps), namespace

    def _step(self, *, predicates: bool) -> str:
        if self._take("@") or self._take("attribute::"):
            return f"@{self._name(attribute=True)}"
        self._take("child::")
        if self._kind == "function":
            step = self._node_test()
        else:
            self.element = self._word.rpartition(":")[2] if predicates else self.element
            step = self._name(attribute=False)
        while predicates and self._take("["):
            step += f"[{self._predicate()}]"
            if not self._take("]"):
                raise self.refused("a ] is missing")
        return step

    def _name(self, *, attribute: bool) -> str:
        if self._kind not in ("name", "symbol") or self._word in ("", "/", "@", ".", "=", "[", "]", ")"):
            raise self.refused("a name is missing")
        word = self._word
        self._advance()
        prefix, colon, _ = word.rpartition(":")
        if colon and prefix not in self._prefixes:
            raise self.refused(f"the prefix {prefix!r} is not declared")
        if colon or attribute or word == "*" or not self._has_default:
            return word
        return f"{_DEFAULT}:{word}"

    def _node_test(self) -> str:
        function = self._word
        self._advance()
        argument = ""
        if function == "processing-instruction(" and self._kind == "literal":
            argument = self._word
            self._advance()
        if function in ("last(", "position(", "node(") or not self._take(")"):
            raise self.refused(f"{function!r} is not expected there")
        return f"{function}{argument})"

    def _predicate(self) -> str:
        if self._kind == "number":
            number = self._word
            self._advance()
            return number
        if self._word == "last(":
            self._advance()
            if not self._take(")"):
                raise self.refused("a ) is missing")
            return "last()"
        path = "." if self._take(".") else self._relative()
        if not self._take("="):
            return path
        if self._kind != "literal":
            raise self.refused("a value in quotes is missing")
        literal = self._word
        self._advance()
        return f"{path}={literal}"

    def _relative(self) -> str:
        steps = [self._step(predicates=False)]
        while self._take("/"):
            steps.append(self._step(predicates=False))
        return "/".join(steps)
