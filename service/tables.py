"""The tables of the database, as the newest migration leaves them (a test compares the two).

A revision is never updated but for its two `superseded` columns, and never deleted. JSON columns hold
the text that goes over the wire. Times are UTC, ISO 8601.
"""

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Integer, MetaData, String, Table, Text

__all__ = ["answers", "metadata", "progress", "revisions", "runs"]

metadata = MetaData()
BIG = BigInteger().with_variant(Integer, "sqlite")

runs = Table(
    "runs",
    metadata,
    Column("key", BIG, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("created", String(40), nullable=False),
    Column("definition", JSON, nullable=False),
    Column("order_version", Integer, nullable=False),
    Column("num_steps", BIG, nullable=False),
    Column("frontier", BIG, nullable=False),
    Column("step", BIG),  # the highest step reported, None before the first report
)

revisions = Table(
    "revisions",
    metadata,
    Column("run_key", BIG, ForeignKey("runs.key"), primary_key=True),
    Column("number", BIG, primary_key=True, autoincrement=False),
    Column("parent", BIG, nullable=False),
    Column("effective_step", BIG, nullable=False),
    Column("schedule", JSON(none_as_null=True)),  # null where the weights stay as they are
    Column("corpora", JSON, nullable=False, server_default="{}"),  # empty where no corpus changes
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("time", String(40), nullable=False),
    Column("superseded", Text),  # the reason; null while in force
    Column("superseded_time", String(40)),
    Column("global_batch_size", BIG),  # null where batch sizes stay as they are
)

progress = Table(
    "progress",
    metadata,
    Column("run_key", BIG, ForeignKey("runs.key"), primary_key=True),
    Column("step", BIG, primary_key=True, autoincrement=False),
    Column("time", String(40), nullable=False),
    Column("known_revision", BIG, nullable=False),
    Column("decided_through", BIG, nullable=False),
    Column("frontier", BIG, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("counts", JSON, nullable=False),
)

answers = Table(  # what an Idempotency-Key was answered with
    "answers",
    metadata,
    Column("run_key", BIG, ForeignKey("runs.key"), primary_key=True),
    Column("idempotency_key", String(200), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("number", BIG, nullable=False),
    Column("answer", JSON, nullable=False),
)
