"""The monitoring page: what it shows (`contents`), and how it is laid out (the template)."""

from wine_quality.drift.page.charts import HEIGHT
from wine_quality.drift.page.contents import PageInputs, make_contents
from wine_quality.drift.page.subjects import THRESHOLD_AT
from wine_quality.drift.page.words import VERDICTS
from wine_quality.pages import render


def render_page(inputs: PageInputs) -> str:
    """Write the page: a whole HTML document, without addresses outside of `inputs.links`."""
    return render(
        "drift/page/monitoring.html",
        page=make_contents(inputs),
        VERDICTS=VERDICTS,
        HEIGHT=HEIGHT,
        THRESHOLD_AT=f"{THRESHOLD_AT:g}",
    )
