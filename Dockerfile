# Two images from one build: `docker build --target api .` and `docker build --target worker .`.
# Linted, but not built by the project's CI, which has no Docker engine.

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/strop
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY app app
COPY engine engine
COPY strop strop
COPY workers workers
RUN /opt/strop/bin/pip install --no-cache-dir --constraint constraints.txt '.[server,engine,postgres]'

# A worker also trains; torch comes without CUDA.
FROM build AS build-worker
RUN /opt/strop/bin/pip install --no-cache-dir --constraint constraints.txt \
    --extra-index-url https://download.pytorch.org/whl/cpu '.[all]'

FROM python:3.11-slim-bookworm AS runtime
# The locale that StringNormalizer asks for, in models that read text. The release of Debian decides its version.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends locales \
    && localedef --inputfile en_US --charmap UTF-8 en_US.UTF-8 \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 10001 strop \
    && install -d -o strop -g strop /var/lib/strop
ENV PATH=/opt/strop/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    STROP_HOME=/var/lib/strop
USER 10001
WORKDIR /var/lib/strop
VOLUME /var/lib/strop

FROM runtime AS api
COPY --from=build /opt/strop /opt/strop
ENV STROP_HOST=0.0.0.0 STROP_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
CMD ["uvicorn", "--factory", "app.main:create_app_from_environment", "--host", "0.0.0.0", "--port", "8000", "--timeout-graceful-shutdown", "2"]

# The same code with the engine's queue named in STROP_QUEUE.
FROM runtime AS worker
COPY --from=build-worker /opt/strop /opt/strop
ENV STROP_QUEUE=cpu REMAP_SIGTERM=SIGQUIT
HEALTHCHECK NONE
CMD ["sh", "-c", "exec celery -A workers.celery_app worker -Q \"$STROP_QUEUE\""]
