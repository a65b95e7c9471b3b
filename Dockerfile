# One image for all of compose.yaml that is ours: the service, the servers of MLflow and Prefect, and
# the worker that runs the pipelines. It holds what `--env production` needs, as locked; neither
# development tools nor Spark.
FROM python:3.11-slim-bookworm AS packages
WORKDIR /app
COPY requirements-production.lock ./
RUN python -m venv /opt/wine-quality \
    && /opt/wine-quality/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement requirements-production.lock
# after the packages, so that a change of the source leaves their layer as it is
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/wine-quality/bin/pip install --no-cache-dir --no-deps --editable .

FROM python:3.11-slim-bookworm
COPY --from=packages /opt/wine-quality /opt/wine-quality
ENV PATH=/opt/wine-quality/bin:$PATH PYTHONUNBUFFERED=1 DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY conf conf
COPY src src
COPY data/01_raw/sample data/01_raw/sample
# who runs it cannot write here, so that each process would compile the source again
RUN python -m compileall -q src
# who is not root may write here and nowhere else; MLflow's artifacts lie beside the project's files
RUN useradd --uid 10001 --create-home wine \
    && install --directory --owner wine --group wine data data/production /artifacts
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health/ready')"]
CMD ["python", "-m", "wine_quality.serving", "serve"]
