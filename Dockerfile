# The daemon with a Tor of its own. See docker-compose.yml for how to run it.
#
# The gateway listens on every address of the container, so it refuses to start until it is told who
# may use it: TORTXD_TOKEN_FILE (clients present that token), or TORTXD_OPEN=1 where the network
# around the container decides, as when its ports are published on the host's loopback alone.

FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements.lock ./
# The locked setuptools builds the wheel; the lock also fixes what the wheel pulls in below. All of
# it is pure Python, or has wheels for amd64 and arm64 alike.
RUN pip install --no-cache-dir --constraint requirements.lock setuptools
COPY pyproject.toml setup.py README.md LICENSE ./
COPY tortxd ./tortxd
COPY twisted ./twisted
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

FROM python:3.13-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates tor tor-geoipdb \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/requirements.lock /wheels/*.whl /tmp/wheels/
# Twisted's index of plugins is made here, because the daemon's user may not write it.
RUN pip install --no-cache-dir --constraint /tmp/wheels/requirements.lock /tmp/wheels/*.whl \
    && rm -rf /tmp/wheels \
    && python -c "from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))"
COPY --chmod=0755 tools/container_health.py /usr/local/bin/container-health
# The ids are the same in each image, so that volumes stay the daemon's own, and Kubernetes can name them.
RUN groupadd --system --gid 999 tortxd \
    && useradd --system --uid 999 --gid tortxd --no-create-home --home-dir /nonexistent tortxd \
    && install -d -o tortxd -g tortxd -m 0700 /var/lib/tortxd

USER tortxd
WORKDIR /var/lib/tortxd
# XDG_STATE_HOME: where the command finds the daemon: docker compose exec tortxd tortxd status
ENV PYTHONUNBUFFERED=1 \
    TORTXD_DATA_DIR=/var/lib/tortxd \
    XDG_STATE_HOME=/var/lib \
    TORTXD_HTTP=tcp:3080:interface=0.0.0.0
# Tor's state: guards are kept for months on purpose, so this must outlive the container.
VOLUME /var/lib/tortxd
EXPOSE 3080 9050
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=90s CMD ["container-health"]
ENTRYPOINT ["twistd", "-n", "--pidfile=", "tortxd"]
