"""The tables of the database, as the newest migration leaves them (a test compares the two).

Events are never updated and never deleted; the other tables hold what they add up to (`service.chain`). A revision is
never updated but for its two `superseded` columns, and never deleted. JSON columns hold the text that goes over the
wire. Times are UTC, ISO 8601.
"""

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text

__all__ = ["answers", "events", "metadata", "progress", "revisions", "runs", "tokens"]

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
    Column("revision", BIG, nullable=False, server_default="0"),  # the newest in force
    Column("newest", BIG, nullable=False, server_default="0"),  # the highest number ever given
    Column("seq", BIG, nullable=False, server_default="0"),  # the number of the newest event
    Column("head", String(64), nullable=False, server_default=""),  # its hash
    Column("limits", JSON, nullable=False, server_default="{}"),
    Column("claim", JSON(none_as_null=True)),  # who trains: {claim, trainer, step, since}; null: nobody has said so
    Column("parent", JSON(none_as_null=True)),  # of a fork: {run, step}
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

events = Table(  # every call that changed something
    "events",
    metadata,
    Column("key", BIG, primary_key=True, autoincrement=True),
    Column("run_key", BIG, ForeignKey("runs.key")),  # null: of no run, such as a token that was issued
    Column("seq", BIG, nullable=False),  # 1, 2, … within the run
    Column("time", String(40), nullable=False),
    Column("kind", String(40), nullable=False),
    Column("actor", String(200), nullable=False),  # the name of the token
    Column("body", JSON, nullable=False),
    Column("hash", String(64), nullable=False),  # see service.chain; empty where there is no run
    Index("events_of_a_run", "run_key", "seq", unique=True),
)

tokens = Table(  # those made by `switchpoint-service tokens`; the secret itself is kept nowhere
    "tokens",
    metadata,
    Column("key", BIG, primary_key=True, autoincrement=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("scopes", JSON, nullable=False),
    Column("digest", String(64), nullable=False),  # SHA-256 of the secret, in hex
    Column("created", String(40), nullable=False),
    Column("expires", String(40)),
    Column("revoked", String(40)),
)
