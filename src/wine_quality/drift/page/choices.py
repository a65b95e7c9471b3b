"""What people have chosen about the monitoring, as the page says it."""

from collections.abc import Mapping, Sequence

from wine_quality.drift.accepted import AcceptedPeriod, coarse_columns
from wine_quality.drift.alerts import AlertSettings
from wine_quality.drift.reference import Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdicts import percent


def choices_in_words(
    settings: DriftSettings,
    alert_settings: AlertSettings,
    references: Mapping[str, Reference],
    accepted: Mapping[str, Sequence[AcceptedPeriod]],
) -> dict[str, str]:
    """Say what is judged, by what, and what is not.

    Args:
        settings: Windows, rates, floors, and what is left out.
        alert_settings: What alerts promise, and who is sent them.
        references: By model version, the one that it was registered with.
        accepted: By model version, the accepted periods that are references since then.

    Returns:
        Words, by what they are about.
    """
    begin = f"at midnight {settings.time_zone}"
    if settings.calendar.offset:
        begin = f"{settings.window_offset} after midnight {settings.time_zone}"
    alerts = alert_settings.false_alerts_per_month
    small = "are not judged" if settings.small_windows == "insufficient_data" else "are merged"
    chosen = {
        "windows": f"{settings.window} of event time; days begin {begin}, weeks on Mondays; those "
        f"with fewer than {settings.min_rows} wines {small}",
        "moments": "all on this page are UTC",
        "false alarms": f"{percent(settings.false_alarm_rate)} of windows without a change; "
        f"{alerts:g} alert{'' if alerts == 1 else 's'} in 30 days",
        "too small to matter": f"fewer than {percent(settings.min_share_moved)} of wines moved, "
        f"{percent(settings.min_fault_rise)} more faulty values, a mean absolute error "
        f"{settings.min_mae_rise:g} higher, a mean error {settings.min_bias_change:g} off",
    }
    lists = {
        "columns left out": settings.columns_left_out,
        "sources judged apart": settings.sources_apart,
        "sources left out": settings.sources_left_out,
    }
    chosen |= {name: ", ".join(names) for name, names in lists.items() if names}
    for version, periods in accepted.items():
        for period in periods:
            words = f"since then the reference is {period.describe()}"
            coarse = coarse_columns(period.reference, references[version])
            if coarse:
                words += f"; further changes hardly show in {', '.join(coarse)}"
            chosen[f"accepted period {period.number}"] = words
    return chosen
