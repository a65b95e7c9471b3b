"""Which failures may pass, and how a failure is told."""

from sqlalchemy.exc import DBAPIError

from wine_quality.database.explaining import may_pass as database_may_pass
from wine_quality.errors import WineQualityError, raised_from


def may_pass(error: BaseException, kinds: tuple[type[Exception], ...]) -> bool:
    """Tell whether trying again may help.

    What a person has to correct never passes by itself, whatever lies beneath it: a
    `WineQualityError` is tried again only if it is itself of one of the kinds. What SQLAlchemy
    passes on has to be of a class that may pass: a wrong password is an `OperationalError` as well.

    Args:
        error: What ended the try, with all that it was raised from.
        kinds: The exceptions that may pass.
    """
    links = list(raised_from(error, put_aside=False))
    ours = [link for link in links if isinstance(link, WineQualityError)]
    return any(isinstance(link, kinds) and _is_passing(link) for link in ours or links)


def _is_passing(error: BaseException) -> bool:
    return not isinstance(error, DBAPIError) or database_may_pass(error)


def in_one_line(error: BaseException) -> str:
    """Tell a failure in one line: what a person has to correct, or else what the program met."""
    from wine_quality.cli import explain

    told = explain(error) or f"{type(error).__name__}: {error}"
    return " ".join(told.split())


def is_explained(error: BaseException) -> bool:
    """Tell whether a person can correct it, so that a stack trace would tell nothing more."""
    from wine_quality.cli import explain

    return explain(error) is not None
