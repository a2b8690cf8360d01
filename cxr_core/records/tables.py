"""The tables of the journal, and how an older database is brought to them."""

from collections.abc import Callable

import sqlalchemy as sql

TABLES = sql.MetaData()
SCHEMA = sql.Table("schema", TABLES, sql.Column("version", sql.Integer, primary_key=True))
READS = sql.Table(
    "reads",
    TABLES,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("at", sql.String(32), nullable=False, index=True),
    sql.Column("digest", sql.String(64), nullable=False, index=True),
    sql.Column("model", sql.String(200), nullable=False),
    sql.Column("version", sql.String(100), nullable=False),
    sql.Column("gate", sql.JSON, nullable=False),
    sql.Column("predictions", sql.JSON, nullable=False),
    sql.Column("mended", sql.String(1000), nullable=False),
    sql.Column("reader", sql.String(200), nullable=False),
    sql.Column("stated", sql.String(40)),
)
OPINIONS = sql.Table(
    "opinions",
    TABLES,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("at", sql.String(32), nullable=False, index=True),
    sql.Column("digest", sql.String(64), nullable=False, index=True),
    sql.Column("label", sql.String(200), nullable=False),
    sql.Column("stance", sql.String(20)),
    sql.Column("confidence", sql.Integer),
    sql.Column("before", sql.Boolean, nullable=False),
    sql.Column("model", sql.String(200), nullable=False),
    sql.Column("version", sql.String(100), nullable=False),
    sql.Column("probability", sql.Float),
    sql.Column("flag", sql.Boolean),
    sql.Column("verdict", sql.String(20)),
    sql.Column("comment", sql.Text, nullable=False),
    sql.Column("test_film", sql.String(1000), nullable=False),
    sql.Column("reader", sql.String(200), nullable=False),
)
EVENTS = sql.Table(
    "events",
    TABLES,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("at", sql.String(32), nullable=False, index=True),
    sql.Column("digest", sql.String(64), nullable=False, index=True),
    sql.Column("what", sql.String(20), nullable=False),
    sql.Column("model", sql.String(200), nullable=False),
    sql.Column("version", sql.String(100), nullable=False),
    sql.Column("name", sql.String(1000), nullable=False),
    sql.Column("note", sql.Text, nullable=False),
    sql.Column("reader", sql.String(200), nullable=False),
)
# That rows were forgotten, how many and why; not which.
ERASURES = sql.Table(
    "erasures",
    TABLES,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("at", sql.String(32), nullable=False),
    sql.Column("reason", sql.String(40), nullable=False),
    sql.Column("rows", sql.Integer, nullable=False),
)
# What was told of films, in tables that were here from the start; those that came later.
FIRST = (READS, OPINIONS)
HELD = (*FIRST, EVENTS)


def _create(connection: sql.Connection) -> None:
    """Make the tables of version 1."""
    TABLES.create_all(connection, [SCHEMA])
    for table in (*FIRST, ERASURES):
        _make(connection, table)


def _add_events(connection: sql.Connection) -> None:
    """Make the table of version 2: what happened to films on the worklist and on screen."""
    _make(connection, EVENTS)


def _add_stated(connection: sql.Connection) -> None:
    """Add the column of version 3: what was stated of the patient; not known of older rows."""
    if "stated" not in {one["name"] for one in sql.inspect(connection).get_columns(READS.name)}:
        connection.execute(sql.text(f"ALTER TABLE {READS.name} ADD COLUMN stated VARCHAR(40)"))


def _make(connection: sql.Connection, table: sql.Table) -> None:
    """Make a table, and the trigger that refuses to change its rows."""
    TABLES.create_all(connection, [table])
    for statement in _refusal(table.name, connection.dialect.name):
        connection.execute(sql.text(statement))


def _refusal(table: str, dialect: str) -> tuple[str, ...]:
    told = "this journal is only added to"
    if dialect == "sqlite":
        return (
            f"CREATE TRIGGER {table}_stay BEFORE UPDATE ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{told}'); END",
        )
    if dialect == "postgresql":
        return (
            "CREATE OR REPLACE FUNCTION cxr_stay() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{told}'; END $$",
            f"CREATE TRIGGER {table}_stay BEFORE UPDATE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION cxr_stay()",
        )
    return ()  # other databases are kept from it by their own grants


# What brings a database from each version to the next, in order: never changed, only added to.
MIGRATIONS: tuple[Callable[[sql.Connection], None], ...] = (_create, _add_events, _add_stated)


def version(connection: sql.Connection) -> int:
    """Return the version of a database; 0 before there is any table."""
    if not sql.inspect(connection).has_table(SCHEMA.name):
        return 0
    return int(connection.execute(sql.select(SCHEMA.c.version)).scalar_one())
