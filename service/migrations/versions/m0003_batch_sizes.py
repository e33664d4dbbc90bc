"""A revision may change the batch size."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("revisions", sa.Column("global_batch_size", sa.BigInteger().with_variant(sa.Integer, "sqlite")))


def downgrade() -> None:
    """Fails where a revision changes the batch size: without it the run would read other samples."""
    revisions = sa.table("revisions", sa.column("global_batch_size"))
    changed = sa.select(sa.func.count()).select_from(revisions).where(revisions.c.global_batch_size.is_not(None))
    if op.get_bind().execute(changed).scalar():
        raise RuntimeError("some revisions change the batch size, which the old form cannot hold")
    with op.batch_alter_table("revisions") as table:
        table.drop_column("global_batch_size")
