#!/bin/bash
# Process 1 of user-mode Linux (vm.py): makes a machine of it, runs the command, writes its status, powers off.
# LAB_WORK (a directory of this machine: the command, its output and status, the modules' index) and LAB_RELEASE come
# from the kernel's command line. Only the checkout and LAB_WORK can be written; tmpfs lies over what else must be.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/run/home
export DM_DISABLE_UDEV=1 # or lvcreate waits for device nodes that nobody makes
export LAB_GUEST=1 PYTEST_ADDOPTS="-p no:cacheprovider"

power_off() {
    echo o >/proc/sysrq-trigger
    sleep 1000
}

machine() {
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mkdir -p /dev/pts /dev/shm
    mount -t devpts devpts /dev/pts
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    mount -t tmpfs -o mode=0755 tmpfs /run
    mkdir -p /run/home /run/checkout /run/guest /run/etc /run/etc.work /run/lock /run/netns /run/lvm /run/mount
    mount --bind "$checkout" /run/checkout && mount --bind "$LAB_WORK" /run/guest || return
    for place in /tmp /var/tmp /mnt /srv /var/lib/glusterd /var/log /var/lib/kubelet; do
        [ -d "$place" ] || continue
        mount -t tmpfs tmpfs "$place" || return
    done
    chmod 1777 /tmp /var/tmp
    mkdir -p /var/log/glusterfs
    for module in dm-thin-pool dm-snapshot fuse loop overlay ipv6 veth bridge; do
        modprobe -d /run/guest -S "$LAB_RELEASE" "$module" || return
    done
    mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/etc.work /etc || return
    mkdir /run/lib /run/lib.work
    mount -t overlay overlay -o lowerdir=/var/lib,upperdir=/run/lib,workdir=/run/lib.work /var/lib || return
    echo "hosts: files" >/etc/nsswitch.conf
    ip link set lo up
    mkdir -p "$checkout" && mount --bind /run/checkout "$checkout"
}

checkout=$(cd "$(dirname "$0")/../.." && pwd)
if ! machine; then
    echo "the guest's machine could not be made" >&2
    dmesg | tail -20 >&2
    power_off
fi
mapfile -d '' -t given </run/guest/environment
mapfile -d '' -t command </run/guest/command
cd "$checkout" || power_off
export PATH=$checkout/.venv/bin:$PATH
env "${given[@]}" "${command[@]}" </dev/null >>/run/guest/stdout 2>>/run/guest/stderr
echo $? >/run/guest/status.new
mv /run/guest/status.new /run/guest/status
power_off
