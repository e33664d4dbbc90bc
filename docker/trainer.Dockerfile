# Conversion and training as an image, about 7 GB: PyPI's torch is the CUDA build and brings its libraries along, so the
# host needs only the driver and the NVIDIA container toolkit. Build from the root of the repository:
#   docker build -f docker/trainer.Dockerfile -t switchpoint-trainer .
# Run (arguments are those of `composer`; workers hand batches over through /dev/shm):
#   docker run --gpus all --shm-size 8g -v ./data:/app/data -v ./runs:/app/runs switchpoint-trainer -n 8 \
#     trainer/run.py trainer/configs/paper/starcoder.yaml trainer/configs/machines/8-gpus.yaml
#   docker run -v ./data:/app/data --entrypoint switchpoint-shards switchpoint-trainer convert --help
FROM python:3.11-slim AS build
RUN pip install --no-cache-dir uv==0.13.8
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /app
COPY pyproject.toml uv.lock README.md ./
RUN uv sync --frozen --no-default-groups --extra shards --extra trainer --extra plot --no-install-project
COPY mixer mixer
COPY shards shards
COPY trainer trainer
COPY service service
RUN uv sync --frozen --no-default-groups --extra shards --extra trainer --extra plot --no-editable

FROM python:3.11-slim
RUN useradd --uid 10001 --create-home switchpoint && install -d -o switchpoint /app/data /app/runs
WORKDIR /app
COPY --from=build /app/.venv .venv
COPY trainer trainer
USER 10001
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1
VOLUME /app/data /app/runs
ENTRYPOINT ["composer"]
CMD ["trainer/run.py", "--help"]
