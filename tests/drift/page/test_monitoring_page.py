import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from tests.drift.alerting import alert
from tests.drift.page.making import Page, log_of, quiet, sources_of, stronger, with_incidents
from wine_quality.drift.incidents import Incident
from wine_quality.drift.page import render_page
from wine_quality.drift.page.words import VERDICTS
from wine_quality.drift.reference import SEGMENTS

SECOND = datetime(2026, 1, 2, tzinfo=UTC)
SWEETER = alert("residual_sugar", since=SECOND, reason="it <rose>", incident=12, new=True)
OPENED = Incident(12, "1", "", SECOND, None, (SWEETER,))


def test_the_page_stands_alone_and_escapes_what_it_shows():
    html = render_page(with_incidents(quiet(), OPENED))
    page = Page(html)
    anchors = {address for address in page.addresses if address.startswith("#")}
    assert set(page.addresses) - anchors == {"data:,", "evidently/drift.html"}
    assert all(f'id="{anchor[1:]}"' in html for anchor in anchors)
    assert "http" not in html
    assert "Evidently's <drift> report" in page.text
    assert "it <rose>" in page.text
    assert html.startswith('<!doctype html>\n<html lang="en">')
    assert 'name="viewport"' in html
    assert "prefers-color-scheme: dark" in html


def test_headings_go_down_step_by_step():
    page = Page(render_page(with_incidents(stronger(), OPENED)))
    assert page.headings.count("h1") == 1
    levels = [int(heading[1]) for heading in page.headings]
    assert levels[0] == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))


def test_an_incident_stands_on_top_with_its_number_and_what_to_do():
    page = Page(render_page(with_incidents(quiet(), OPENED))).words
    assert "▲ 1 incident is open Residual sugar of the wines has changed, since" in page
    assert (
        "Residual sugar of the wines has changed new incident 12 · version 1 · warning · open"
        in page
    )
    assert "kedro alerts show 12" in page
    assert "see whether the wines or the measuring have changed" in page
    assert "alert since Fri 2026-01-02 00:00 UTC" in page
    assert "Nothing that a person has to look at." not in page


def test_without_a_script_the_newest_window_is_there():
    html = render_page(quiet())
    page = Page(html).words
    assert "✓ All is well" in page
    assert "Nothing that a person has to look at." in page
    assert "Shown: 2026-01-03, version 1" in page
    # what only a script can do is not offered
    assert re.search(r'<form id="chooser"[^>]* hidden', html)
    histograms = html.count('<figure class="histogram">')
    # all columns by segment but the type, the joint distance, and the model's errors
    assert histograms == 1 + (11 + 1 + 1) * len(SEGMENTS) + len(SEGMENTS)
    assert len(re.findall(r'<path class="bars" d="M0 0[^"]+V0z"', html)) == histograms


@pytest.mark.parametrize(
    ("wines", "words"),
    [(1, "1 wine in the newest window"), (2, "2 wines in the newest window")],
)
def test_one_wine_is_a_wine_wherever_it_is_counted(wines, words):
    page = Page(render_page(sources_of(log_of(1, a_day=wines)))).words
    assert words in page
    assert ("1 wines" in page) is False
    assert "1 labelled wines" not in page
    assert "over 1 window," in page
    assert "00:00 to" not in page


def test_no_labels_and_no_window_leave_a_sensible_page():
    blind = Page(render_page(sources_of(log_of(2).assign(quality=np.nan)))).words
    assert "0 of them with ground truth" in blind
    assert VERDICTS["no_labels"] in blind
    assert "Mean absolute error" not in blind
    sources = quiet()
    none = replace(
        sources,
        verdicts=sources.verdicts.iloc[:1].assign(column="reference", reason="not judged: gone"),
        model_verdicts=sources.model_verdicts.iloc[:0],
        hours={},
    )
    html = render_page(none)
    assert "Version 1: not judged: gone" in Page(html).words
    assert "<script" not in html


def test_every_verdict_has_a_sign_of_its_own():
    alarms = ("ok", "drift", "decayed", "data_quality", "no_traffic")
    assert len({VERDICTS[verdict][0] for verdict in alarms}) == len(alarms)


# Colours


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(first, second):
    """As WCAG 2.2 defines it."""
    high, low = sorted([luminance(first), luminance(second)], reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_on_its_ground(theme):
    style = re.search(r"<style>(.*?)</style>", render_page(quiet()), re.DOTALL).group(1)
    colours: dict[str, dict[str, str]] = {"light": {}, "dark": {}}
    for block in re.finditer(
        r"(@media \(prefers-color-scheme: dark\) \{\s*)?:root \{(.*?)\}", style, re.DOTALL
    ):
        found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]+)", block[2]))
        for name in ("dark",) if block[1] else ("light", "dark"):
            colours[name] |= found
    own = colours[theme]
    for text in ("ink", "faint", "wine", "link", "ok", "alarm", "quality", "none"):
        for ground in ("paper", "card"):
            assert contrast(own[text], own[ground]) >= 4.5, (text, ground)
    for shape in ("bars", "other", "blue"):
        # of shapes, not of text; bars have an outline beside them
        assert contrast(own[shape], own["paper"]) >= (2 if shape == "bars" else 3), shape


def test_a_contrast_that_is_too_low_would_be_seen():
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert contrast("#000", "#fff") == pytest.approx(21)


# In a browser

SHOWN = """[document.querySelector("main").innerText,
    [...document.querySelectorAll("main svg, main path")].map((one) =>
        [one.getAttribute("d"), one.getAttribute("viewBox")])]"""
"""All words and shapes."""


@pytest.fixture
def opened(phone, tmp_path):
    """Opens a page on a phone."""

    def open_page(sources, address=""):
        at = tmp_path / "monitoring.html"
        at.write_text(render_page(sources), encoding="utf-8")
        phone.page.goto("about:blank")
        phone.page.goto(at.as_uri() + address)
        return phone.page

    yield open_page
    assert phone.complaints == []
    assert [url for url in phone.asked if not url.startswith(("file:", "about:", "data:"))] == []


def shown(page, subject, field):
    element = page.locator(".subject").filter(has_text=subject).first
    return element.locator(field).first.text_content().strip()


def drawn(page, subject, shape):
    element = page.locator(".subject").filter(has_text=subject).first
    return element.locator(f".histogram svg {shape}").first.get_attribute("d")


@pytest.mark.slow
def test_a_phone_shows_the_page_without_scrolling_sideways(opened):
    page = opened(with_incidents(stronger(), OPENED))
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.slow
def test_any_window_can_be_chosen(opened):
    page = opened(stronger())
    assert shown(page, "alcohol", "[data-a=verdict]") == VERDICTS["ok"]
    before = drawn(page, "alcohol", ".bars")
    page.select_option("select[name=a]", "1")
    page.wait_for_function("location.hash.includes('2026-01-02')")
    assert shown(page, "alcohol", "[data-a=verdict]") == VERDICTS["drift"]
    assert "median moved" in shown(page, "alcohol", "[data-a=reason]")
    assert drawn(page, "alcohol", ".bars") != before
    assert page.inner_text(".name-a") == "2026-01-02, version 1"
    page.locator("[data-step='-1']").click()
    page.wait_for_function("location.hash.includes('2026-01-01')")
    assert shown(page, "alcohol", "[data-a=verdict]") == VERDICTS["ok"]
    page.locator(".spark").first.click(position={"x": 175, "y": 5})
    page.wait_for_function("location.hash.includes('2026-01-02')")


@pytest.mark.slow
def test_what_is_drawn_by_the_script_is_what_is_drawn_without_it(opened):
    page = opened(stronger())
    before = page.evaluate(SHOWN)
    page.select_option("select[name=a]", "0")
    page.wait_for_function("location.hash.includes('2026-01-01')")
    assert page.evaluate(SHOWN) != before
    page.select_option("select[name=a]", "2")
    page.wait_for_function("location.hash.includes('2026-01-03')")
    assert page.evaluate(SHOWN) == before


@pytest.mark.slow
def test_two_windows_can_be_compared_and_an_address_keeps_the_choice(opened):
    page = opened(stronger(), "#2026-01-02T000000_v1+2026-01-01T000000_v1")
    page.wait_for_selector(".compared", state="attached")
    assert shown(page, "alcohol", "[data-a=verdict]") == VERDICTS["drift"]
    assert shown(page, "alcohol", "[data-b=verdict]") == VERDICTS["ok"]
    other = drawn(page, "alcohol", ".other")
    assert other.startswith("M0 0")
    assert other != drawn(page, "alcohol", ".bars")
    page.select_option("select[name=b]", "")
    page.wait_for_selector("html:not(.compared)", state="attached")
    assert drawn(page, "alcohol", ".other") == ""


@pytest.mark.slow
def test_an_address_names_a_timeline_apart_too(opened):
    page = opened(sources_of(log_of(2, "1 (simulation)")))
    page.select_option("select[name=a]", "0")
    page.wait_for_function("location.hash.includes('2026-01-01')")
    address = page.evaluate("location.href")
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_function("document.querySelector('[name=a]').value === '0'")
    assert page.inner_text(".name-a") == "2026-01-01, version 1 (simulation)"


@pytest.mark.slow
def test_an_incident_leads_to_the_window_in_which_it_began(opened):
    page = opened(with_incidents(stronger(), OPENED))
    page.get_by_role("button", name="Show where it began").click()
    page.wait_for_function("location.hash.includes('2026-01-02')")
    assert page.input_value("select[name=a]") == "1"


@pytest.mark.slow
def test_versions_are_compared_with_their_own_references(opened):
    first, second = log_of(1), log_of(1, "2")
    later = second.assign(event_time=second["event_time"] + pd.Timedelta("1D"))
    sources = sources_of(pd.concat([first, later], ignore_index=True))
    page = opened(sources)
    page.select_option("select[name=a]", "0")
    page.wait_for_function("location.hash.endsWith('_v1')")
    assert drawn(page, "alcohol", ".outline").startswith("M0 0")
