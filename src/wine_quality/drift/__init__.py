"""Has anything changed since the champion was fitted? Profiles, calibration, verdicts, reports.

The four steps, each in a module of its own: `profiles` counts, `calibration` finds out which scores
chance alone produces, `verdicts` and `performance` decide, `evidently_reports` shows.
"""
