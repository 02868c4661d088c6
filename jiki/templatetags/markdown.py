"""`{{ exercise.text|markdown }}`."""

from django import template
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

register = template.Library()

# "js-default" escapes HTML, and leaves links out that are not http, https, mailto or the like.
_markdown = MarkdownIt("js-default")


@register.filter
def markdown(text: str) -> SafeString:
    """A text in Markdown as HTML; HTML in it is shown as text."""
    html: SafeString = mark_safe(_markdown.render(text))  # noqa: S308
    return html
