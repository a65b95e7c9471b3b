"""Files that browsers ask for: the live page and the interface's, which need no other host."""

from collections.abc import Iterator
from importlib.resources import files

from wine_quality.serving.answers import Answer
from wine_quality.serving.routing import Handler, ReceivedRequest, Route

_PAGES = files("wine_quality.serving") / "page"
# that package is wanted for these files alone: FastAPI's own page takes them from a CDN
_SWAGGER = files("fastapi_offline") / "static"
_FILES = {
    "/live": _PAGES / "live.html",
    "/live/live.js": _PAGES / "live.js",
    "/live/live.css": _PAGES / "live.css",
    "/docs": _PAGES / "docs.html",
    "/docs/docs.js": _PAGES / "docs.js",
    "/docs/swagger-ui.js": _SWAGGER / "swagger-ui-bundle.js",
    "/docs/swagger-ui.css": _SWAGGER / "swagger-ui.css",
}
_MEDIA_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}


def page_routes() -> Iterator[Route]:
    """A route for each file; everybody may see them, for they tell nothing of wines or models."""
    for path, file in _FILES.items():
        media_type = f"{_MEDIA_TYPES[file.name.rpartition('.')[2]]}; charset=utf-8"
        handler = _always(file.read_bytes(), media_type.encode())
        yield Route("GET", path, None, handler, purpose="page")


def _always(content: bytes, media_type: bytes) -> Handler:
    async def show(_: ReceivedRequest) -> Answer:
        return Answer(content, media_type)

    return show
