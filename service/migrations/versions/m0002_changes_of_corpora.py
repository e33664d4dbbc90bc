"""A revision may change corpora, and may leave the weights as they are."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("revisions") as table:  # SQLite cannot alter a column: the table is copied
        table.alter_column("schedule", existing_type=sa.JSON, nullable=True)
        table.add_column(sa.Column("corpora", sa.JSON, nullable=False, server_default="{}"))


def downgrade() -> None:
    """Fails where a revision says nothing of the weights: the old form cannot hold it."""
    with op.batch_alter_table("revisions") as table:
        table.drop_column("corpora")
        table.alter_column("schedule", existing_type=sa.JSON, nullable=False)
