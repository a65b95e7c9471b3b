"""The one exception a person is meant to read."""


class WineQualityError(Exception):
    """A mistake that a person can make and mend.

    The message says in one line what is wrong and what to do about it; the command line prints
    that line alone and exits with status 1.
    """


class RefusedBatchError(WineQualityError):
    """A request that is wrong in itself: asking again, whoever answers, would change nothing."""
