"""Narrative: what may be shown to people."""

import pytest

from fhir_server.validation.narrative import div

OPEN = '<div xmlns="http://www.w3.org/1999/xhtml">'

SAFE = [
    "text",
    "<p>a</p><br/><hr/>",
    '<table border="1"><caption>c</caption><thead><tr><th scope="col">h</th></tr></thead>'
    '<tbody><tr><td colspan="2" style="color: red; background-color: #fff">x</td></tr></tbody></table>',
    '<a href="https://example.org/x?a=1&amp;b=2">x</a><a name="top"/><a href="#top">up</a>',
    '<a href="Patient/1">relative</a><a href="mailto:a@b.c">mail</a><a href="tel:+1">call</a>',
    '<img src="data:image/png;base64,iVBORw0KGgo=" alt="x"/>',
    '<img src="#pic"/>',
    '<p style="background-image: url(data:image/png;base64,iVBORw0KGgo=)">x</p>',
    '<p style="text-align: left; background-image: url(tbl_bck10.png)">x</p>',
    '<p id="a" class="b c" title="d" lang="en" xml:lang="en" dir="ltr">x</p>',
    "<b><i><tt><code>nested</code></tt></i></b><cite>c</cite><q>q</q><sub>1</sub>",
    "<ul><li>a</li></ul><ol><li>b</li></ol><dl><dt>c</dt><dd>d</dd></dl>",
    "<!-- a comment -->x",
    "&lt;script&gt; is text, &#160; and &amp; too",
]

REFUSED = [
    ("<script>alert(1)</script>", "ELEMENT"),
    ("<SCRIPT>alert(1)</SCRIPT>", "ELEMENT"),
    ("<style>p { color: red }</style>", "ELEMENT"),
    ('<link rel="stylesheet" href="x.css"/>x', "ELEMENT"),
    ('<form action="x"><input type="text"/></form>x', "ELEMENT"),
    ('<iframe src="http://example.org"/>x', "ELEMENT"),
    ('<object data="x"/>x', "ELEMENT"),
    ("<body>x</body>", "ELEMENT"),
    ("<font>x</font>", "ELEMENT"),
    ('<svg xmlns="http://www.w3.org/2000/svg"><circle/></svg>x', "ELEMENT"),
    ('<x:script xmlns:x="http://www.w3.org/1999/xhtml">alert(1)</x:script>', "ELEMENT"),
    ('<p xmlns="">no namespace</p>', "ELEMENT"),
    ('<p onclick="alert(1)">x</p>', "ATTRIBUTE"),
    ('<img src="x.png" onerror="alert(1)"/>', "ATTRIBUTE"),
    ('<p xml:base="javascript:">x</p>', "ATTRIBUTE"),
    ('<p contenteditable="true">x</p>', "ATTRIBUTE"),
    ('<a href="javascript:alert(1)">x</a>', "LINK"),
    ('<a href="JaVaScRiPt:alert(1)">x</a>', "LINK"),
    ('<a href=" &#1; javascript:alert(1)">x</a>', "XML"),
    ('<a href="&#9;java&#10;script:alert(1)">x</a>', "LINK"),
    ('<a href="&#x6A;avascript:alert(1)">x</a>', "LINK"),
    ('<a href="vbscript:x">x</a>', "LINK"),
    ('<a href="data:text/html;base64,PHNjcmlwdD4=">x</a>', "LINK"),
    ('<img src="data:image/svg+xml;base64,PHN2Zz4="/>', "LINK"),
    ('<blockquote cite="javascript:x">x</blockquote>', "LINK"),
    ('<p style="background: url(http://example.org/x.png)">x</p>', "STYLE"),
    ('<p style="background: url(//example.org/x.png)">x</p>', "STYLE"),
    ('<p style="background: url(../Patient.png)">x</p>', "STYLE"),
    ('<p style="background: url(x.svg)">x</p>', "STYLE"),
    ('<p style="background: url(x.png)url(http://example.org/x.png)">x</p>', "STYLE"),
    ('<p style="width: expression(alert(1))">x</p>', "STYLE"),
    ('<p style="@import x">x</p>', "STYLE"),
    ('<p style="background: image(x)">x</p>', "STYLE"),
    ('<p style="width: expression/**/(x)">x</p>', "STYLE"),
    ('<p style="b\\61ckground: \\75rl(x)">x</p>', "STYLE"),
    ("&nbsp;", "XML"),
    ("<p>not closed", "XML"),
    ("a & b", "XML"),
    ("<![CDATA[><script>alert(1)</script>]]>", "XML"),
    ("<?php x ?>x", "XML"),
    ("<!--> <p>alert</p> -->x", "XML"),
    ("<!----!><p>alert</p> -->x", "XML"),
    ("\x00", "XML"),
    ("\ud800", "XML"),
    ("\uffff", "XML"),
    ("", "EMPTY"),
    (" \n ", "EMPTY"),
    ("<p> </p><!-- nothing -->", "EMPTY"),
]


@pytest.mark.parametrize("inner", SAFE)
def test_basic_html_passes(inner: str) -> None:
    assert div(f"{OPEN}{inner}</div>") is None


@pytest.mark.parametrize(("inner", "name"), REFUSED)
def test_what_is_active_or_ambiguous_is_refused(inner: str, name: str) -> None:
    found = div(f"{OPEN}{inner}</div>")
    assert found is not None
    assert {fault.key for fault in found} == {f"HS-VAL-NARRATIVE-{name}"}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("<div>no namespace</div>", "HS-VAL-NARRATIVE-ROOT"),
        ('<p xmlns="http://www.w3.org/1999/xhtml">x</p>', "HS-VAL-NARRATIVE-ROOT"),
        ("plain text", "HS-VAL-NARRATIVE-XML"),
        (f'<?xml version="1.0" encoding="UTF-8"?>{OPEN}x</div>', "HS-VAL-NARRATIVE-XML"),
        (f'<!DOCTYPE div [<!ENTITY e SYSTEM "file:///etc/passwd">]>{OPEN}&e;</div>', "HS-VAL-NARRATIVE-XML"),
        (f"{OPEN}x</div>{OPEN}y</div>", "HS-VAL-NARRATIVE-XML"),
        ("", "HS-VAL-EMPTY"),
    ],
)
def test_the_root_is_one_div_of_xhtml(text: str, key: str) -> None:
    found = div(text)
    assert found is not None
    assert [fault.key for fault in found] == [key]


def test_entities_that_would_grow_to_gigabytes_are_refused_unexpanded() -> None:
    lines = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    found = div(f'<!DOCTYPE div [<!ENTITY a0 "boom">{lines}]>{OPEN}&a11;</div>')
    assert found is not None
    assert found[0].key == "HS-VAL-NARRATIVE-XML"


def test_each_fault_is_told_with_its_line() -> None:
    found = div(f'{OPEN}\n<script/>\n<p onclick="x">a</p>\n</div>')
    assert found is not None
    assert ["(line 2)" in found[0].diagnostics, "(line 3)" in found[1].diagnostics] == [True, True]


def test_deep_nesting_is_one_fault_and_no_crash() -> None:
    found = div(OPEN + "<b>" * 100_000 + "x" + "</b>" * 100_000 + "</div>")
    assert found is not None
    assert [fault.key for fault in found] == ["HS-VAL-NARRATIVE-XML"]
