from importlib.resources import files

import pytest
from jinja2 import UndefinedError

from wine_quality.pages import render

PAGE = "pipelines/monitoring/no_report.html"


def test_a_page_is_a_whole_document_that_needs_no_other_file():
    page = render(PAGE, kind="drift", remarks=["Nothing is logged."])
    assert page.startswith('<!doctype html>\n<html lang="en">')
    assert page.endswith("</html>\n")
    assert "<title>No drift report</title>" in page
    assert "<li>Nothing is logged.</li>" in page
    assert files("wine_quality.pages").joinpath("style.css").read_text().strip() in page
    assert "http" not in page


def test_what_is_shown_is_escaped():
    assert "<li>a &lt;b&gt; &amp; c</li>" in render(PAGE, kind="drift", remarks=["a <b> & c"])


def test_what_a_template_is_not_given_is_an_error():
    with pytest.raises(UndefinedError, match="remarks"):
        render(PAGE, kind="drift")
