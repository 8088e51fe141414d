# Alignway on a CPU: gateway, engine agent, vLLM's CPU build and aligner in one image. See deploy/README.md, which says
# what of this was tried and what was not.
#
#   docker build -t alignway .
#   docker run --init --shm-size 1g -p 127.0.0.1:8080:8080 -v alignway-data:/data \
#     -e ALIGNWAY_ADMIN_KEY="a string of 16 characters or more" alignway

ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
# Further arguments for pip. torch must be the CPU build, and where the default index offers another one, this is the
# place to name an index that has it.
ARG PIP_ARGS=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/alignway
COPY constraints/main.txt /src/constraints/main.txt
# The constraints list every package with its version, so nothing is resolved.
RUN /opt/alignway/bin/python -m pip install --no-deps ${PIP_ARGS} -r /src/constraints/main.txt
# Fails here, and not at the first request, where torch is a build whose libraries are not there.
RUN /opt/alignway/bin/python -c "import torch; print('torch', torch.__version__)"
COPY . /src
RUN /opt/alignway/bin/python -m pip install --no-deps --no-build-isolation /src

FROM ${PYTHON_IMAGE} AS run
# libnuma: vLLM's CPU kernels are linked with it.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnuma1 \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --create-home alignway \
    && install --directory --owner alignway --group alignway /data
COPY --from=build /opt/alignway /opt/alignway
# Everything that is written lies in /data: records, releases, logs, and converted or fetched models (the cache).
ENV PATH=/opt/alignway/bin:$PATH \
    ALIGNWAY_DATA_DIR=/data \
    XDG_CACHE_HOME=/data/cache \
    PYTHONUNBUFFERED=1
USER alignway
WORKDIR /data
VOLUME /data
EXPOSE 8080
# 200 as long as a gateway worker answers; whether a model is served is what /readyz says.
HEALTHCHECK --interval=15s --timeout=5s --start-period=300s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["alignway"]
CMD ["up", "--host", "0.0.0.0"]
