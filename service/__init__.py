"""The live schedule over HTTP: one writer of revisions, one frontier a run, everything acknowledged on disk.

    from service.app import create_app
    from service.settings import Settings
    app = create_app(Settings(database="switchpoint.db"))      # an ASGI application

Control plane only: no sample passes through it, and training goes on without it. Imports mixer, never
trainer or shards; neither torch nor composer. FastAPI, SQLAlchemy and Alembic are imported by
`create_app`, so that importing this package costs next to nothing. PROTOCOL.md beside this file fixes
what trainer and service say to each other.
"""
