"""Markdown to HTML, from people who mean well and from people who do not."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from conversations.rendering import ALIGNMENTS, LONGEST, render

HARMLESS = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre", "code"),
    *("em", "strong", "s", "ul", "ol", "li", "a"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}


class Inspector(HTMLParser):
    """Reads HTML as a browser's parser would and notes whatever could act."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in HARMLESS:
            self.found.append(tag)
        for name, value in attributes:
            known = (
                name in ("title", "rel", "start")
                or (name == "class" and value in ALIGNMENTS)
                or (name == "href" and (value or "").startswith(("https://", "http://", "mailto:")))
            )
            if not known:
                self.found.append(f"{tag} {name}={value}")

    def handle_comment(self, data: str) -> None:
        self.found.append(f"comment {data}")

    def handle_decl(self, decl: str) -> None:
        self.found.append(f"declaration {decl}")


def what_could_act(html: str) -> list[str]:
    inspector = Inspector()
    inspector.feed(html)
    inspector.close()
    return inspector.found


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg onload=alert(1)><use href='data:image/svg+xml,x'/></svg>",
        "<!-- --><iframe srcdoc='<script>alert(1)</script>'>",
        "<!DOCTYPE html><base href=https://evil.example>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](java\tscript:alert(1))",
        "[x](&#106;avascript:alert(1))",
        "[x](\x01javascript:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "![x](data:image/svg+xml;base64,PHN2Zz4=)",
        "![x](javascript:alert(1))",
        '![x](https://e.example/"onerror=alert(1))',
        '[x](https://e.example "title\\" onmouseover=alert(1) x=\\"")',
        "<javascript:alert(1)>",
        "[x]: javascript:alert(1)\n[x]",
        "[x](vbscript:msgbox(1)) [y](file:///etc/passwd) [z](//evil.example/x)",
        "[x](/admin/logout/) [y](?a=b) [z](#top)",
        '```"><script>alert(1)</script>\nx\n```',
        "`<b>` </code></pre><script>alert(1)</script>",
        "| a |\n|:-:|\n| <img src=x onerror=alert(1)> |",
        "<p style='position:fixed'>over everything</p>",
        "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
        "<form action=https://evil.example><input name=password>",
    ],
)
def test_nothing_in_an_answer_can_act(hostile: str) -> None:
    assert what_could_act(render(hostile)) == []


def test_the_inspector_of_these_tests_sees_what_acts() -> None:
    bad = "<!-- c --><script></script><a href='javascript:x' onclick=y>z</a>"
    assert len(what_could_act(bad)) == 4


def test_a_link_tells_its_target_nothing_and_lends_it_no_weight() -> None:
    html = render("[x](https://a.example)")
    assert 'rel="noopener noreferrer nofollow"' in html
    assert 'href="https://a.example"' in html


def test_a_picture_from_elsewhere_is_a_link_and_is_not_loaded() -> None:
    html = render("![a chart](https://a.example/chart.png)")
    assert "<img" not in html
    assert ">a chart</a>" in html


def test_markdown_looks_like_what_was_meant() -> None:
    html = render("# T\n\n**b** *i* ~~s~~ `c`\n\n3. x\n\n| a | b |\n|--:|:-:|\n| 1 | 2 |")
    for part in ("<h1>T</h1>", "<strong>b</strong>", "<s>s</s>", "<code>c</code>"):
        assert part in html
    assert '<ol start="3">' in html
    assert '<td class="align-right">1</td>' in html
    assert '<td class="align-center">2</td>' in html


def test_code_is_shown_as_it_was_written() -> None:
    assert "print(1 &lt; 2)" in render("```python\nprint(1 < 2)\n```")


def test_a_huge_text_is_shown_plain_instead_of_holding_up_the_page() -> None:
    html = render("*" * LONGEST + "<b>x")
    assert html.startswith("<pre>")
    assert what_could_act(html) == []
