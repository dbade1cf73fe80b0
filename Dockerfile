# The image of controller, node plug-in and mounts: gluster-csi in a virtual environment, Debian's Python and GlusterFS client.
#
#   docker build --tag gluster-csi:0.1.0 .
#   buildah bud --isolation chroot --tag gluster-csi:0.1.0 .
#
# BASE is any Debian 12; give it by digest for a build that can be repeated. Package indexes of your own: PIP_INDEX_URL and
# PIP_FIND_LINKS as build arguments, or these files as secrets, none of which stays in the image:
#   --secret id=pip.conf,src=FILE     pip's configuration
#   --secret id=sources.list,src=FILE replaces the sources of apt
#   --secret id=ca.pem,src=FILE       the certificates that pip and apt trust

ARG BASE=debian:bookworm-slim

# --- packages: what both stages are made from ----------------------------------------------------

FROM ${BASE} AS packages
RUN --mount=type=secret,id=sources.list --mount=type=secret,id=ca.pem \
    set -eu; \
    if [ -s /run/secrets/sources.list ]; then set -- -o Dir::Etc::sourcelist=/run/secrets/sources.list -o Dir::Etc::sourceparts=-; else set --; fi; \
    if [ -s /run/secrets/ca.pem ]; then set -- "$@" -o Acquire::https::CAInfo=/run/secrets/ca.pem; fi; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get "$@" update; \
    apt-get "$@" install --yes --no-install-recommends python3 glusterfs-client util-linux mount; \
    apt-get clean; \
    rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log /usr/share/doc/* /usr/share/man/*

# --- build: the package with all it leans on, at the path where it will run ----------------------

FROM packages AS build
RUN --mount=type=secret,id=sources.list --mount=type=secret,id=ca.pem \
    set -eu; \
    if [ -s /run/secrets/sources.list ]; then set -- -o Dir::Etc::sourcelist=/run/secrets/sources.list -o Dir::Etc::sourceparts=-; else set --; fi; \
    if [ -s /run/secrets/ca.pem ]; then set -- "$@" -o Acquire::https::CAInfo=/run/secrets/ca.pem; fi; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get "$@" update; \
    apt-get "$@" install --yes --no-install-recommends python3-venv
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
WORKDIR /src
# What it leans on is a layer of its own, made anew only when that changes: both what runs and what builds (/opt/build).
COPY pyproject.toml ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.pem \
    set -eu; \
    if [ -s /run/secrets/ca.pem ]; then export PIP_CERT=/run/secrets/ca.pem; fi; \
    export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore; \
    named() { python3 -c 'import sys, tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))[sys.argv[1]][sys.argv[2]], sep="\n")' "$@"; }; \
    named project dependencies >/tmp/runs; \
    named build-system requires >/tmp/builds; \
    python3 -m venv /opt/build; \
    /opt/build/bin/pip install --quiet --requirement /tmp/builds; \
    python3 -m venv /opt/gluster-csi; \
    /opt/gluster-csi/bin/pip install --quiet --requirement /tmp/runs
COPY hatch_build.py README.md LICENSE ./
COPY proto proto
COPY csi csi
# The stubs of gRPC are made here (hatch_build.py). pip itself is of no use at run time.
RUN set -eu; \
    export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore; \
    PATH=/opt/build/bin:$PATH /opt/build/bin/pip wheel --quiet --no-build-isolation --no-deps --wheel-dir=/tmp/wheels .; \
    /opt/gluster-csi/bin/pip install --quiet --no-index --no-deps /tmp/wheels/*.whl; \
    /opt/gluster-csi/bin/pip check; \
    /opt/gluster-csi/bin/gluster-csi --version; \
    /opt/gluster-csi/bin/pip uninstall --quiet --yes setuptools pip

# --- the image -----------------------------------------------------------------------------------

FROM packages
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="gluster-csi" \
      org.opencontainers.image.description="CSI driver for plain GlusterFS: controller, node plug-in and mounts" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Below 2000, where the GIDs of volumes begin: the controller's group must never be that of a volume.
RUN set -eu; \
    printf 'gluster-csi:x:1500:\n' >>/etc/group; \
    printf 'gluster-csi:x:1500:1500::/var/lib/gluster-csi:/usr/sbin/nologin\n' >>/etc/passwd; \
    mkdir -p /var/lib/gluster-csi /run/gluster-csi /var/log/gluster-csi; \
    chown 1500:1500 /var/lib/gluster-csi /run/gluster-csi /var/log/gluster-csi
COPY --from=build /opt/gluster-csi /opt/gluster-csi
ENV PATH=/opt/gluster-csi/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# The node plug-in and mounts need root and say so in their manifests.
USER 1500:1500
ENTRYPOINT ["gluster-csi"]
