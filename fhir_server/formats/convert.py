"""Documents from one format into the other, as bytes: what the HTTP edge needs.

Spec: https://hl7.org/fhir/R4/formats.html
"""

from __future__ import annotations

from collections.abc import Callable

from fhir_server.formats.xml_reader import XmlReader
from fhir_server.formats.xml_writer import XmlWriter
from fhir_server.model import codec
from profiles.registry import Registry


class Converter:
    """Converts whole documents; thread-safe."""

    def __init__(self, registry: Registry) -> None:
        self._reader = XmlReader(registry)
        self._writer = XmlWriter(registry)

    def json_of(self, xml: bytes) -> bytes:
        """The JSON of an XML document.

        Raises:
            InvalidError: 400; not XML, or XML that is no FHIR resource.
            TooLargeError: 413; more bytes than are read as XML.
        """
        return codec.encode(self._reader.read(xml))

    def xml_of(self, json: bytes, *, pretty: bool, relink: Callable[[str], str] | None = None) -> bytes:
        """The XML of a resource in JSON; `relink` changes the addresses of a Bundle's links.

        Raises:
            NotAcceptableError: 406; it holds what XML cannot say.
        """
        resource = codec.decode(json)
        if relink is not None and resource.get("resourceType") == "Bundle":
            for link in resource.get("link", ()):
                link["url"] = relink(link["url"])
        return self._writer.write(resource, pretty=pretty)
