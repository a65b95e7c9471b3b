"""The one exception a person is meant to read, and what an exception was raised from."""

from collections.abc import Iterator


class WineQualityError(Exception):
    """A mistake that a person can make and correct.

    The message says in one line what is wrong and what to do about it; the command line prints
    that line alone and exits with status 1.
    """


class RefusedBatchError(WineQualityError):
    """A request that is wrong in itself: asking again, whoever answers, would change nothing."""


def raised_from(error: BaseException | None, *, put_aside: bool = True) -> Iterator[BaseException]:
    """Yield an exception and those that it was raised from or after, the innermost last.

    Args:
        error: The exception.
        put_aside: Whether those count that `from None` put aside: they still say what happened,
            but not that it may pass.
    """
    while error is not None:
        yield error
        hidden = error.__suppress_context__ and not put_aside
        error = error.__cause__ or (None if hidden else error.__context__)
