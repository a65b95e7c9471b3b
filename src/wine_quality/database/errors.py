"""What is raised where a database cannot be used."""

from wine_quality.errors import WineQualityError


class DatabaseError(WineQualityError):
    """A database cannot be used as it is configured, or as it stands."""


class DatabaseUnavailableError(DatabaseError):
    """A database does not answer now; the same call may succeed later."""
