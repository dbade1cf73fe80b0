#!/bin/bash
# The boot of one laboratory host, as PID 1 of its own PID, mount, UTS and network namespaces.
#   host.sh root HOSTDIR     builds the host's file system tree and goes into it
#   host.sh boot HOSTDIR     mounts its fstab, starts sshd and glusterd, then reaps whatever ends
# HOSTDIR holds what survives a reboot. It is seen under the same path inside, so that loop devices show it.
set -eu
stage=$1 disk=$2
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C

if [ "$stage" = root ]; then
    new=$disk/root
    # A fresh tree of single binds, not the machine's mount table: a copy of somebody's mount in here would
    # keep that mount (a client of another lab, say) alive after its owner has unmounted it.
    mount --bind / "$new"
    mount -o remount,bind,ro "$new"
    mount -t proc proc "$new/proc"
    mount -t sysfs sysfs "$new/sys"
    if [ -d "$disk/dev" ]; then mount --bind "$disk/dev" "$new/dev"; else mount --bind /dev "$new/dev"; fi
    mount --bind /dev/pts "$new/dev/pts"
    for volatile in /run /tmp /dev/shm /mnt /home; do
        [ -d "$new$volatile" ] && mount -t tmpfs -o mode=0755 lab "$new$volatile"
    done
    chmod 1777 "$new/tmp" "$new/dev/shm"
    # This machine's start-up files would take their time at each login on the host.
    for place in /root/.bashrc /root/.bash_profile /root/.bash_login /root/.profile; do
        [ ! -e "$new$place" ] || mount --bind /dev/null "$new$place"
    done
    mkdir -p "$new/run/gluster" "$new/run/lock" "$new/run/sshd" "$new/run/mount"
    # Only the machine's root file system is in the tree so far: one that the lab lies on is bound as well.
    below=$(findmnt --noheadings --first-only --output TARGET --target "$disk")
    [ "$below" = / ] || [ -d "$new$disk" ] || mount --bind "$below" "$new$below"
    mkdir -p "$new$disk"
    mount --bind "$disk" "$new$disk"
    mount -t overlay overlay -o "lowerdir=/etc,upperdir=$disk/etc,workdir=$disk/etc.work" "$new/etc"
    mount -t overlay overlay -o "lowerdir=/var/lib,upperdir=$disk/lib,workdir=$disk/lib.work" "$new/var/lib"
    kept=$disk
    if [ -e "$disk/system.img" ]; then
        kept=$disk/system
        mount -o loop "$disk/system.img" "$kept"
        [ -d "$kept/log" ] || cp -a "$disk/glusterd" "$disk/gluster-csi" "$disk/log" "$kept"
    fi
    mount --bind "$kept/glusterd" "$new/var/lib/glusterd"
    mount --bind "$kept/gluster-csi" "$new/var/lib/gluster-csi"
    mount --bind "$kept/log" "$new/var/log/glusterfs"
    mount --bind "$disk/srv" "$new/srv"
    if [ -n "${LAB_GSYNCD:-}" ]; then mount --bind "$disk/../gsyncd" "$new$LAB_GSYNCD"; fi
    cd "$new"
    pivot_root . .
    umount --lazy .
    exec /bin/bash "$disk/host.sh" boot "$disk"
fi

cd /
hostname "$(cat /etc/hostname)"
if [ -e /dev/vdb ]; then vgchange -qq -aay >/dev/null || echo "vgchange: exit $?" >&2; fi
mount --all || echo "mount --all: exit $?: a line without nofail failed, or a file system is damaged" >&2
/usr/sbin/sshd -f /etc/ssh/lab_sshd_config
ulimit -n 65536 2>/dev/null || true
glusterd -p /run/glusterd.pid -l /var/log/glusterfs/glusterd.log
until [ -S /run/glusterd.socket ]; do sleep 0.02; done
touch /run/lab-ready
set +e
# bash, as PID 1, reaps every orphan when SIGCHLD comes; `wait` only has to keep it here.
while :; do
    sleep infinity &
    wait $!
done
