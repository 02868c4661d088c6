"""The pages of the product."""

from django.views.generic import TemplateView


class Home(TemplateView):
    """What Jiki is, and the way in."""

    template_name = "jiki/home.html"
