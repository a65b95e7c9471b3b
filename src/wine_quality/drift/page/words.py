"""What the page calls things, and how it explains them."""

from wine_quality.drift.alerts import Alert
from wine_quality.drift.reference import JOINT
from wine_quality.drift.verdicts import COPIES, TRAFFIC
from wine_quality.drift.vocabulary import SELECTED_LABELS, UNFINISHED
from wine_quality.drift.watching import MODEL
from wine_quality.drift.windows import EVENT_TIME, REFERENCE
from wine_quality.wines import MEASUREMENTS, PREDICTION, QUALITY_UNIT, TYPE

VERDICTS = {
    "ok": "✓ ok",
    "drift": "▲ drift",
    "decayed": "▼ decayed",
    "data_quality": "◆ data quality",
    "no_traffic": "○ no traffic",
    "insufficient_data": "– too few wines",
    "no_labels": "– no ground truth",
    SELECTED_LABELS: "– labels are a selection",
    UNFINISHED: "– goes on",
    "": "– not judged",
}
"""With signs, so that they differ without their colour, too."""
LABELS = {m.name: m.label for m in MEASUREMENTS} | {
    PREDICTION: f"prediction ({QUALITY_UNIT})",
    JOINT: "how measurements go together",
    COPIES: "copies of wines",
    MODEL: f"error of the model ({QUALITY_UNIT})",
}
COLUMN_EXPLAINED = (
    "The score says how far the window's values lie from those of the wines that the model was "
    "made from. It is compared with its threshold, the score that chance alone hardly ever passes "
    "in any column of a window. Beyond it there is drift, if enough wines moved to matter."
)
EXPLAINED = {
    JOINT: "The score says whether measurements still go together, even where each of them looks "
    "as usual: by the distance from the middle of the wines of a type, which is drawn here, and in "
    "combinations that hardly vary among ordinary wines. Chance alone hardly ever passes the "
    "threshold.",
    COPIES: "The score is how often each wine comes on average, by its measurements. Beyond the "
    "threshold the same wines come again and again, and the window counts only as the different "
    "wines in it.",
    MODEL: "The score says by how many standard errors the mean absolute error, or the mean error "
    "(bias), is worse than on the wines that the model was made from. Chance alone hardly ever "
    "passes the threshold.",
}
"""What scores and thresholds mean; `COLUMN_EXPLAINED` for columns."""
CHANGES = {
    ("drift", TYPE): "the mix of wine types has changed",
    ("drift", PREDICTION): "predictions lie differently than before",
    ("drift", JOINT): "measurements no longer go together as before",
    ("data_quality", PREDICTION): "predictions are faulty",
    ("data_quality", COPIES): "the same wines come again and again",
    ("data_quality", TRAFFIC): "an unusual number of wines comes",
    ("data_quality", EVENT_TIME): "wines are dated in the future",
    ("data_quality", REFERENCE): "a model version cannot be judged",
    ("no_traffic", TRAFFIC): "no wines come",
    ("decayed", MODEL): "predictions are farther off than before",
}
"""What alerts say to people who do not know the columns."""


def label_of(subject: str) -> str:
    """Name a subject."""
    return LABELS.get(subject, subject.replace("_", " "))


def change_in_words(alert: Alert) -> str:
    """Say what an alert is about, without figures."""
    said = CHANGES.get((alert.verdict, alert.subject))
    if said is not None:
        return said
    name = alert.subject.replace("_", " ")
    if alert.verdict == "data_quality":
        return f"values of {name} are faulty"
    return f"{name} of the wines has changed"
