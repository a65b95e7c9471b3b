"""Pages that are written from templates: one way to render them, and one look."""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **shown: object) -> str:
    """Render a template of this package.

    HTML is escaped, and what a template names without being given it is an error. Pages extend
    `pages/base.html`, which brings the style that all share. They are whole documents: they need
    no other file and no other host.

    Args:
        template: Its path within the package, as `modelling/model_card.html`.
        shown: What it shows, by name.
    """
    return _environment().get_template(template).render(**shown)


@cache
def _environment() -> "Environment":
    # most commands have no use for it
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    templates = Environment(
        loader=PackageLoader("wine_quality", ""),
        undefined=StrictUndefined,
        # the Markdown of a model card is text; what of it is HTML, its reader escapes
        autoescape=select_autoescape(("html",), default=False),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {
        "n": "{:,}".format,
        "words": lambda name: str(name).replace("_", " "),
        # of a Markdown table
        "cell": lambda text: str(text).replace("|", "\\|"),
    }
    return templates
