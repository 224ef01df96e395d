"""Pages of resources as lines.

Spec: https://hl7.org/fhir/R4/nd-json.html
"""

from __future__ import annotations

import pytest

from fhir_server.formats.ndjson import line_of, lines_of


def test_a_page_becomes_its_resources_and_its_links() -> None:
    page = (
        b'{"resourceType":"Bundle","type":"history","total":3,"link":[{"relation":"self","url":"http://h/a"},'
        b'{"relation":"next","url":"http://h/b?x=1"}],"entry":[{"fullUrl":"u","resource":{"resourceType":"Patient",'
        b'"id":"1"}},{"request":{"method":"DELETE","url":"x"}},{"resource":{"a":\n"\\n"}}]}'
    )
    lines = lines_of(page)
    assert lines is not None
    assert lines.body == b'{"resourceType":"Patient","id":"1"}\n{"a":"\\n"}\n'
    assert lines.link == '<http://h/a>; rel="self", <http://h/b?x=1>; rel="next"'


@pytest.mark.parametrize(
    "document",
    [b'{"resourceType":"Patient"}', b'{"resourceType":"Bundle","type":"batch-response"}', b'{"link":1}', b"[]"],
)
def test_what_is_no_page_gives_no_lines(document: bytes) -> None:
    assert lines_of(document) is None


def test_a_line_is_one_line() -> None:
    assert line_of(b'{"a":\r\n  1.10}') == b'{"a":1.10}\n'
