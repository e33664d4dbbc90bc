# The live schedule as an image: no torch, no composer. Build from the root of the repository:
#   docker build -f docker/service.Dockerfile -t switchpoint-service .
# Run (beyond loopback the service asks for tokens: a file of them, or such as were issued into its database):
#   docker run -p 127.0.0.1:8321:8321 -v schedules:/data -v ./tokens:/run/secrets/switchpoint_tokens:ro switchpoint-service
# PostgreSQL: -e SWITCHPOINT_DB=postgresql://user@host/name -e PGPASSWORD=...
FROM python:3.11-slim AS build
RUN pip install --no-cache-dir uv==0.13.8
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /app
COPY pyproject.toml uv.lock README.md ./
RUN uv sync --frozen --no-default-groups --extra service --no-install-project
COPY mixer mixer
COPY shards shards
COPY trainer trainer
COPY service service
RUN uv sync --frozen --no-default-groups --extra service --no-editable

FROM python:3.11-slim
RUN useradd --uid 10001 --create-home switchpoint && install -d -o switchpoint /data
COPY --from=build /app/.venv /app/.venv
USER 10001
VOLUME /data
EXPOSE 8321
# hadolint ignore=DL3064
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    SWITCHPOINT_DB=/data/switchpoint.db \
    SWITCHPOINT_TOKENS=/run/secrets/switchpoint_tokens
HEALTHCHECK --interval=10s --timeout=3s CMD \
  ["/app/.venv/bin/python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8321/readyz', timeout=2)"]
ENTRYPOINT ["/app/.venv/bin/switchpoint-service"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8321", "--log-format", "json"]
