"""`{{ exercise.text|markdown }}`."""

from django import template
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

register = template.Library()

# "js-default" escapes HTML, and drops links with unsafe schemes, such as javascript:.
_markdown = MarkdownIt("js-default")


@register.filter
def markdown(text: str) -> SafeString:
    """Render Markdown as HTML; HTML in the text is escaped."""
    html: SafeString = mark_safe(_markdown.render(text))  # noqa: S308
    return html
