"""Tables that belong together and have one version, and the steps from version to version.

A step is a module `vNNNN_what_it_does.py` in the package of the schema's migrations, with a
function `upgrade` that changes the tables through Alembic's operations. It is frozen once it is
released: it writes names and types out and imports nothing of the project, for that will change.
New tables are made as the schema has them, at the newest version at once; a test compares the two
ways.
"""

import pkgutil
from dataclasses import dataclass
from importlib import import_module

import sqlalchemy as sa
from sqlalchemy.engine import Connection

FIRST_VERSION = "0001"


@dataclass(frozen=True)
class Schema:
    """Some tables of a database.

    Attributes:
        what: What is kept in them, as `inference log`.
        tables: The tables as they are now.
        version_table: Name of the table that has the version, in the layout of Alembic's.
        migrations: Package of the steps.
        command: What a person runs to migrate, with the address after it; without one, an older
            version is migrated when it is opened to be written to.
        first_tables: Tables of the first version that may stand without a version, some of them
            missing; the first step then has to pass over those that are there.
    """

    what: str
    tables: sa.MetaData
    version_table: str
    migrations: str
    command: str | None = None
    first_tables: frozenset[str] = frozenset()

    @property
    def versions(self) -> sa.Table:
        """The table of the version."""
        column = sa.Column("version_num", sa.String(32), nullable=False)
        # as Alembic names it
        key = sa.PrimaryKeyConstraint("version_num", name=f"{self.version_table}_pkc")
        return sa.Table(self.version_table, sa.MetaData(), column, key)

    @property
    def version(self) -> str:
        """The newest version."""
        return max(self._steps())

    def create(self, connection: Connection) -> None:
        """Make the tables at the newest version, where there are none."""
        self.tables.create_all(connection)
        self._set_version(connection, self.version)

    def upgrade(self, connection: Connection, version: str | None) -> None:
        """Take the steps from a version to the newest.

        Args:
            connection: In a transaction that keeps all others from the tables.
            version: That of the tables, None where they have none.
        """
        from alembic.migration import MigrationContext
        from alembic.operations import Operations

        operations = Operations(MigrationContext.configure(connection))
        for number, module in sorted(self._steps().items()):
            if version is None or number > version:
                import_module(module).upgrade(operations)
        self._set_version(connection, self.version)

    def _set_version(self, connection: Connection, version: str) -> None:
        versions = self.versions
        versions.create(connection, checkfirst=True)
        connection.execute(sa.delete(versions))
        connection.execute(sa.insert(versions), {"version_num": version})

    def _steps(self) -> dict[str, str]:
        """The modules of the steps by the version that they lead to."""
        found = pkgutil.iter_modules(import_module(self.migrations).__path__)
        return {
            name[1:5]: f"{self.migrations}.{name}"
            for _, name, _ in found
            if name[0] == "v" and name[1:5].isdigit()
        }
