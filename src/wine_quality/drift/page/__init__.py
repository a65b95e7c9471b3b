"""The monitoring page: what it shows (`contents`), and how it is laid out (the template)."""

from wine_quality.drift.page.contents import Sources, make_contents
from wine_quality.drift.page.words import VERDICTS
from wine_quality.pages import render


def render_page(sources: Sources) -> str:
    """Write the page: a whole HTML document, without addresses outside of `sources.links`."""
    return render("drift/page/monitoring.html", page=make_contents(sources), VERDICTS=VERDICTS)
