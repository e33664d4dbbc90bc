"""Runs, revisions, progress and the answers of idempotent requests."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("key", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(32), nullable=False, unique=True),
        sa.Column("name", sa.String(200), nullable=False, unique=True),
        sa.Column("created", sa.String(40), nullable=False),
        sa.Column("definition", sa.JSON, nullable=False),
        sa.Column("order_version", sa.Integer, nullable=False),
        sa.Column("num_steps", BIG, nullable=False),
        sa.Column("frontier", BIG, nullable=False),
        sa.Column("step", BIG),
    )
    op.create_table(
        "revisions",
        sa.Column("run_key", BIG, sa.ForeignKey("runs.key"), primary_key=True),
        sa.Column("number", BIG, primary_key=True, autoincrement=False),
        sa.Column("parent", BIG, nullable=False),
        sa.Column("effective_step", BIG, nullable=False),
        sa.Column("schedule", sa.JSON, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("time", sa.String(40), nullable=False),
        sa.Column("superseded", sa.Text),
        sa.Column("superseded_time", sa.String(40)),
    )
    op.create_table(
        "progress",
        sa.Column("run_key", BIG, sa.ForeignKey("runs.key"), primary_key=True),
        sa.Column("step", BIG, primary_key=True, autoincrement=False),
        sa.Column("time", sa.String(40), nullable=False),
        sa.Column("known_revision", BIG, nullable=False),
        sa.Column("decided_through", BIG, nullable=False),
        sa.Column("frontier", BIG, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("counts", sa.JSON, nullable=False),
    )
    op.create_table(
        "answers",
        sa.Column("run_key", BIG, sa.ForeignKey("runs.key"), primary_key=True),
        sa.Column("idempotency_key", sa.String(200), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("number", BIG, nullable=False),
        sa.Column("answer", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    for table in ("answers", "progress", "revisions", "runs"):
        op.drop_table(table)
