"""`create_app(settings)`: the ASGI application of one database.

Nothing is made at import, and FastAPI itself is imported when an application is wanted: it takes as long
(half a second) as importing this package may take. Creating an application opens its database, makes
it when absent and migrates it, so the application is ready once it exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

__all__ = ["create_app"]

MAX_BATCH = 64  # reports in one transaction
PAUSE_S = 0.01  # between two of them: what comes meanwhile shares one
DESCRIPTION = "The live schedule of training runs: its history, its forecast, what stands where."


def create_app(settings: Settings) -> FastAPI:
    """The application that serves `settings.database`; `DatabaseFileError` when it cannot be opened.

    The database is closed when the server stops (ASGI's lifespan). `app.state.stopping` is how a server says that it is
    going to. There are no pages about the API: they would load programs from elsewhere.
    """
    from contextlib import asynccontextmanager

    from fastapi import FastAPI

    from service import middleware, problems
    from service.batches import Batches
    from service.fast import FastReports
    from service.keyring import Keyring
    from service.metrics import Metrics
    from service.operations import operations
    from service.page import page
    from service.routes import v1
    from service.runs import Runs
    from service.stopping import Stopping
    from service.store import Store

    metrics = Metrics()
    store = Store(settings.database, observe=metrics.transaction)
    metrics.watch(store, max_runs=settings.max_page)
    keyring, stopping = Keyring(settings.tokens, store), Stopping()
    runs = Runs(store, plan_cache_size=settings.plan_cache_size)
    reports = Batches(runs.report_all, key=lambda item: item[0], max_size=MAX_BATCH, pause_s=PAUSE_S)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        reports.close()
        store.close()

    app = FastAPI(
        title="Switchpoint",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings, app.state.store, app.state.metrics = settings, store, metrics
    app.state.stopping = stopping
    app.state.runs, app.state.reports = runs, reports
    app.include_router(v1)
    app.include_router(operations)
    app.include_router(page)
    problems.install(app)
    route = next(route for route in v1.routes if getattr(route, "operation_id", None) == "reportProgress")
    app.add_middleware(FastReports, reports=reports, route=route)  # the innermost
    middleware.install(app, settings, keyring=keyring, metrics=metrics, stopping=stopping)
    return app
