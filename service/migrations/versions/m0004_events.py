"""The record of every change as a chain of events; claims, limits, forks, tokens.

Runs that are there already get a record of what is known of them: how they were made, their revisions, and one report
with the frontier and what was superseded (`service.chain.reconstruct`).
"""

import sqlalchemy as sa
from alembic import op

from service.chain import reconstruct

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    with op.batch_alter_table("runs") as table:
        table.add_column(sa.Column("revision", BIG, nullable=False, server_default="0"))
        table.add_column(sa.Column("newest", BIG, nullable=False, server_default="0"))
        table.add_column(sa.Column("seq", BIG, nullable=False, server_default="0"))
        table.add_column(sa.Column("head", sa.String(64), nullable=False, server_default=""))
        table.add_column(sa.Column("limits", sa.JSON, nullable=False, server_default="{}"))
        table.add_column(sa.Column("claim", sa.JSON(none_as_null=True)))
        table.add_column(sa.Column("parent", sa.JSON(none_as_null=True)))
    op.create_table(
        "events",
        sa.Column("key", BIG, primary_key=True, autoincrement=True),
        sa.Column("run_key", BIG, sa.ForeignKey("runs.key")),
        sa.Column("seq", BIG, nullable=False),
        sa.Column("time", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_index("events_of_a_run", "events", ["run_key", "seq"], unique=True)
    op.create_table(
        "tokens",
        sa.Column("key", BIG, primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(200), nullable=False, unique=True),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("created", sa.String(40), nullable=False),
        sa.Column("expires", sa.String(40)),
        sa.Column("revoked", sa.String(40)),
    )
    _record_what_is_there()


def downgrade() -> None:
    """Loses the record, claims, limits, where runs were forked from, and tokens."""
    op.drop_table("tokens")
    op.drop_index("events_of_a_run", "events")
    op.drop_table("events")
    with op.batch_alter_table("runs") as table:
        for name in ("parent", "claim", "limits", "head", "seq", "newest", "revision"):
            table.drop_column(name)


def _record_what_is_there() -> None:
    connection = op.get_bind()
    metadata = sa.MetaData()
    runs, revisions, events = (
        sa.Table(name, metadata, autoload_with=connection) for name in ("runs", "revisions", "events")
    )
    for run in connection.execute(sa.select(runs)).mappings().all():
        query = sa.select(revisions).where(revisions.c.run_key == run["key"]).order_by(revisions.c.number)
        history = [dict(row) for row in connection.execute(query).mappings()]
        for row in history:
            del row["run_key"]
        known = {name: run[name] for name in ("created", "definition", "frontier", "step")}
        record = reconstruct(run["id"], revisions=history, **known)
        connection.execute(events.insert(), [{"run_key": run["key"], **event} for event in record])
        in_force = [row["number"] for row in history if row["superseded"] is None]
        values = {
            "seq": record[-1]["seq"],
            "head": record[-1]["hash"],
            "newest": max((row["number"] for row in history), default=0),
            "revision": max(in_force, default=0),
        }
        connection.execute(runs.update().where(runs.c.key == run["key"]).values(**values))
