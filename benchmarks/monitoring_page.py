"""Measure the monitoring page: how large it is, how long it takes to write and to open.

    python benchmarks/monitoring_page.py [--windows 400] [--subjects 40] [--wines 90] [--rounds 5]

Synthetic wines, so many in each hourly window, half of them labelled, are judged as the pipeline
does. Columns are then doubled, each copy with its windows in another order, until there are so
many subjects. Each round writes the page and opens it in a headless Chromium (/usr/bin/chromium, or
`WINE_QUALITY_TEST_CHROMIUM`), then chooses another window of its list. Medians are shown: writing
in CPU seconds, what the browser does in wall time. Prints Markdown.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from playwright.sync_api import sync_playwright
from scipy import sparse

from wine_quality.drift.alerts import AlertSettings
from wine_quality.drift.judging import judge_hours
from wine_quality.drift.page import render_page
from wine_quality.drift.page.contents import PageInputs
from wine_quality.drift.profiles import Profile, count
from wine_quality.drift.reference import BUCKETS, COUNTED_SEGMENTS, Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdict_store import CHANGES_DTYPES, Changes
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import MEASUREMENT_NAMES, PREDICTION, QUALITY

SEED = 20_260_101
REFERENCE_ROWS = 4000
VERSION = "1"


def predicted_wines(rows: int, seed: int) -> pd.DataFrame:
    wines = draw_wines(rows, seed)
    noise = 0.5 * np.random.default_rng(seed).standard_normal(rows)
    return wines.assign(**{PREDICTION: 5.8 + 0.5 * (wines[QUALITY] - 5.8) + noise})


def judge(windows: int, wines: int) -> tuple[Reference, Profile, pd.DataFrame, pd.DataFrame]:
    reference = Reference.from_wines(predicted_wines(REFERENCE_ROWS, SEED))
    log = predicted_wines(windows * wines, SEED + 1)
    start = pd.Timestamp("2026-01-01", tz="UTC")
    hour = pd.to_timedelta(np.arange(len(log)) // wines, unit="h")
    log = log.assign(event_time=start + hour, **{QUALITY: log[QUALITY].where(log.index % 2 == 0)})
    hours = count(log, reference)
    settings = DriftSettings(window="1h", min_rows=30)
    return reference, hours, *judge_hours(hours, reference, VERSION, settings)


def doubled(
    reference: Reference, hours: Profile, verdicts: pd.DataFrame, subjects: int
) -> tuple[Reference, Profile, pd.DataFrame]:
    """Add copies of measurements until so many subjects are judged."""
    lacking = subjects - verdicts["column"].nunique()
    copies = [MEASUREMENT_NAMES[k % len(MEASUREMENT_NAMES)] for k in range(max(lacking, 0))]
    names = [f"{name}_{k}" for k, name in enumerate(copies)]
    cells = [reference.cells[name] for name in copies]
    places = [reference.columns.index(reference.bins(name)) for name in copies]

    def longer(row: Sequence[float | None]) -> tuple[float | None, ...]:
        return (*row, *(row[place] for place in places))

    wide = replace(
        reference,
        columns=reference.columns
        + tuple(
            replace(reference.columns[place], name=name)
            for place, name in zip(places, names, strict=True)
        ),
        counts=tuple(
            tuple(row.tolist()) + tuple(int(n) for cell in cells for n in row[cell])
            for row in reference.by_segment
        ),
        lows=longer(reference.lows),
        highs=longer(reference.highs),
    )
    by_segment, buckets = hours.dense(reference)
    moved = [np.roll(by_segment[:, :, cell], k + 1, axis=0) for k, cell in enumerate(cells)]
    together = np.concatenate([by_segment, *moved], axis=2)
    assert together.shape[1:] == (len(COUNTED_SEGMENTS), wide.width)
    flat = np.hstack([together.reshape(len(hours), -1), buckets[:, :BUCKETS]])
    bounds = [np.hstack([bound, bound[:, places]]) for bound in (hours.lows, hours.highs)]
    profile = Profile(hours.starts, sparse.csr_matrix(flat), hours.sums, *bounds)
    rows = [
        verdicts[verdicts["column"] == column].assign(column=name)
        for column, name in zip(copies, names, strict=True)
    ]
    return wide, profile, pd.concat([verdicts, *rows], ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("windows", 400), ("subjects", 40), ("wines", 90), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    reference, hours, verdicts, model = judge(options.windows, options.wines)
    reference, hours, verdicts = doubled(reference, hours, verdicts, options.subjects)
    no_changes = pd.DataFrame(columns=list(CHANGES_DTYPES)).astype(CHANGES_DTYPES)
    sources = PageInputs(
        verdicts=verdicts,
        model_verdicts=model,
        incidents=[],
        raised=[],
        changes=Changes(no_changes, 0),
        hours={VERSION: hours},
        references={VERSION: reference},
        alert_settings=AlertSettings(),
        links={},
        now=datetime(2026, 2, 1, tzinfo=UTC),
    )
    written, opened, chosen = [], [], []
    chromium = os.environ.get("WINE_QUALITY_TEST_CHROMIUM", "/usr/bin/chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as browsers:
        at = Path(folder) / "monitoring.html"
        browser = browsers.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        for _ in range(options.rounds):
            began = time.process_time()
            at.write_text(render_page(sources), encoding="utf-8")
            written.append(time.process_time() - began)
            page = browser.new_page()
            began = time.perf_counter()
            page.goto(at.as_uri())
            # until something is painted
            page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
            opened.append(time.perf_counter() - began)
            began = time.perf_counter()
            page.select_option("select[name=a]", index=len(hours) // 2)
            page.wait_for_function("location.hash.length > 1")
            chosen.append(time.perf_counter() - began)
            page.close()
        browser.close()
        size = at.stat().st_size / 1e6
    print("| windows | subjects | size, MB | written, CPU s | opened, s | first choice, s |")
    print("|--:|--:|--:|--:|--:|--:|")
    subjects = verdicts["column"].nunique()
    times = " | ".join(f"{statistics.median(t):.2f}" for t in (written, opened, chosen))
    print(f"| {options.windows} | {subjects} + 3 of the model | {size:.2f} | {times} |")


if __name__ == "__main__":
    main()
