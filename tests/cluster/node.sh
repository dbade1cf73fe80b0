#!/bin/bash
# The boot of a Kubernetes node, as PID 1 of its own PID, mount, UTS, IPC, network and cgroup namespaces.
#   node.sh enter DISK NAME PROGRAMS   joins the node's control groups, then goes into the namespaces
#   node.sh root DISK NAME PROGRAMS    builds the node's file system tree and goes into it
#   node.sh boot DISK NAME PROGRAMS    reaps whatever ends
# DISK and PROGRAMS are seen under the same paths inside. NAME is the host name, and that of its control groups.
set -eu
stage=$1 disk=$2 name=$3 programs=$4
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C

if [ "$stage" = enter ]; then
    joined=
    for processes in /sys/fs/cgroup/"$name"/cgroup.procs /sys/fs/cgroup/*/"$name"/cgroup.procs; do
        if [ -e "$processes" ]; then
            echo $$ >"$processes"
            joined=yes
        fi
    done
    # A node that is in no group of its own would never be found again.
    if [ -z "$joined" ]; then
        echo "the control groups $name are not there" >&2
        exit 1
    fi
    exec unshare --cgroup --mount --propagation private --pid --uts --ipc --fork --kill-child \
        /bin/bash "$disk/node.sh" root "$disk" "$name" "$programs"
fi

# Control groups: what the node sees as the root is its own group. $1 is where they are seen.
mount_groups() {
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then # version 2 alone
        mount --bind "/sys/fs/cgroup/$name" "$1"
        # A group with children that have controllers holds no processes itself.
        mkdir -p "$1/init"
        echo 1 >"$1/init/cgroup.procs"
        for controller in $(cat "$1/cgroup.controllers"); do echo "+$controller" >"$1/cgroup.subtree_control"; done
        return
    fi
    mount -t tmpfs -o mode=0755 cgroup "$1"
    for hierarchy in /sys/fs/cgroup/*/; do
        hierarchy=$(basename "$hierarchy")
        if [ -d "/sys/fs/cgroup/$hierarchy/$name" ]; then
            mkdir "$1/$hierarchy"
            mount --bind "/sys/fs/cgroup/$hierarchy/$name" "$1/$hierarchy"
        fi
    done
}

# The kubelet sets these for the whole machine. It finds them set as it wants, and lets them be.
pretend_settings() {
    mkdir /run/settings
    while read -r path value; do
        file=/run/settings/$(basename "$path")
        echo "$value" >"$file"
        mount --bind "$file" "/proc/sys/$path"
    done <<END
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
END
}

if [ "$stage" = root ]; then
    new=$disk/root
    # A fresh tree of single binds, not the machine's mount table: a copy of somebody's mount in here would keep it alive.
    mount --bind / "$new"
    mount -o remount,bind,ro "$new"
    mount -t proc proc "$new/proc"
    mount -t sysfs sysfs "$new/sys"
    mount_groups "$new/sys/fs/cgroup"
    mount --bind /dev "$new/dev"
    mount --bind /dev/pts "$new/dev/pts"
    for volatile in /run /tmp /dev/shm /mnt /srv; do
        [ -d "$new$volatile" ] && mount -t tmpfs -o mode=0755 node "$new$volatile"
    done
    chmod 1777 "$new/tmp" "$new/dev/shm"
    mkdir -p "$new/run/lock"
    # Only the machine's root file system is in the tree so far: others are bound where they are needed.
    for needed in "$disk" "$programs"; do
        below=$(findmnt --noheadings --first-only --output TARGET --target "$needed")
        [ "$below" = / ] || [ -d "$new$needed" ] || mount --bind "$below" "$new$below"
    done
    mkdir -p "$new$disk"
    mount --bind "$disk" "$new$disk"
    for layered in etc var opt; do
        mount -t overlay overlay -o "lowerdir=/$layered,upperdir=$disk/$layered,workdir=$disk/$layered.work" "$new/$layered"
    done
    # An overlay can't carry another's layers, and file locks and quotas want a plain file system.
    for plain in kubelet containerd; do
        mkdir -p "$new/var/lib/$plain"
        mount --bind "$disk/$plain" "$new/var/lib/$plain"
    done
    cd "$new"
    pivot_root . .
    umount --lazy .
    exec /bin/bash "$disk/node.sh" boot "$disk" "$name" "$programs"
fi

cd /
hostname "$name"
# Mounts that a pod makes with propagation "Bidirectional" are seen here and by other pods.
mount --make-rshared /
ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
pretend_settings
touch /run/node-ready
set +e
# bash, as PID 1, reaps every orphan when SIGCHLD comes; `wait` only has to keep it here.
while :; do
    sleep infinity &
    wait $!
done
