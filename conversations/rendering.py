"""Markdown to safe HTML. An answer is hostile text: whoever wrote the files and pages that a
model has read may speak through it, to a person who is signed in to the admin.

Three walls, each enough by itself for what it is meant to stop: the parser takes no HTML and
only absolute web links; the sanitiser knows a short list of tags; the page's CSP runs no script
and loads nothing from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import urlsplit

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

LONGEST = 200_000
"""Characters. A longer text is shown as it is: parsing must not hold up a page."""

SCHEMES = {"http", "https", "mailto"}
ALIGNMENTS = {"align-left", "align-center", "align-right"}

_TAGS = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre", "code"),
    *("em", "strong", "s", "ul", "ol", "li", "a"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}
_CLEANER = nh3.Cleaner(
    tags=_TAGS,
    attributes={"a": {"href", "title"}, "ol": {"start"}},
    allowed_classes={"th": ALIGNMENTS, "td": ALIGNMENTS},
    url_schemes=SCHEMES,
    url_relative="deny",
    link_rel="noopener noreferrer nofollow",
)


def render(text: str) -> SafeString:
    """`text` as HTML that may stand in a page of the admin."""
    if len(text) > LONGEST:
        return mark_safe(f"<pre>{escape(text)}</pre>")  # noqa: S308 - escaped here
    return mark_safe(_CLEANER.clean(_MARKDOWN.render(text)))  # noqa: S308 - the point of this file


def _is_web_link(url: str) -> bool:
    """Absolute only: a relative link would lead the reader about inside the admin."""
    try:
        return urlsplit(url).scheme.lower() in SCHEMES
    except ValueError:
        return False


def _picture_as_link(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    """A picture from elsewhere would tell its owner who reads the answer; a link tells nothing."""
    token = tokens[index]
    label = renderer.renderInlineAsText(token.children, options, env) or "picture"
    return f'<a href="{escape(str(token.attrGet("src")))}">{escape(label)}</a>'


def _aligned_cell(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    """The page's CSP takes no style attributes, so alignment is a class."""
    token = tokens[index]
    style = str(token.attrs.pop("style", ""))
    if style:
        token.attrSet("class", "align-" + style.removeprefix("text-align:"))
    return renderer.renderToken(tokens, index, options, env)


def _parser() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    markdown.validateLink = _is_web_link  # type: ignore[method-assign]
    markdown.add_render_rule("image", _picture_as_link)
    markdown.add_render_rule("th_open", _aligned_cell)
    markdown.add_render_rule("td_open", _aligned_cell)
    return markdown


_MARKDOWN = _parser()
