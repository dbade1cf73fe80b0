#!/bin/bash
# Records anew what the real LVM answers: runs every command of the transcripts beside this file in user-mode Linux
# and writes its answer below it. Root, and Debian's packages user-mode-linux lvm2 thin-provisioning-tools kmod xfsprogs.
#
#     tests/recorded/lvm/record.sh [NAME...]     # of transcripts, without .txt; all of them if none is named
#
# The guest runs on this machine's own files. Whatever LVM would write there lies under a tmpfs.
set -euo pipefail

DISKS=(2G 1G 1G 400M) # /dev/loop0 and so on, blank at the start of every transcript

outside() {
    here=$(cd "$(dirname "$0")" && pwd)
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    release=$(ls /usr/lib/uml/modules)
    mkdir -p "$work/lib/modules" "$work/in" "$work/out" "$work/empty"
    cp -r "/usr/lib/uml/modules/$release" "$work/lib/modules/"
    depmod -b "$work" "$release"
    if [ $# -eq 0 ]; then
        cp "$here"/*.txt "$work/in/"
    else
        for name in "$@"; do cp "$here/$name.txt" "$work/in/"; done
    fi
    nice linux.uml mem=1024M root=/dev/root rootfstype=hostfs rootflags=/ rw con=null con0=fd:0,fd:1 quiet \
        "init=$here/record.sh" "LVM_RECORD_DIRECTORY=$work" "LVM_RECORD_RELEASE=$release" </dev/null >"$work/console" 2>&1 || true
    # The exit status of the guest says nothing; what it says at its end does.
    if [ ! -e "$work/out/done" ]; then
        cat "$work/console" >&2
        exit 1
    fi
    rm "$work/out/done"
    cp "$work"/out/* "$here/"
}

inside() {
    export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/run
    export DM_DISABLE_UDEV=1 # nobody makes device nodes here but LVM itself
    mount -t proc proc /proc
    mount -t sysfs sys /sys
    mkdir -p /dev/shm
    mount -t tmpfs -o size=800M tmpfs /dev/shm
    mount -t tmpfs tmpfs /run
    mkdir -p /run/lvm /run/lock/lvm /run/keep
    cp -a /etc/lvm/. /run/keep/
    for path in /mnt /etc/lvm; do
        # What follows empties these: without a tmpfs over them that would be this machine's.
        mount -t tmpfs tmpfs "$path" || power_off
    done
    cp -a /run/keep/. /etc/lvm/
    for module in dm-thin-pool dm-snapshot loop xfs; do
        modprobe -d "$LVM_RECORD_DIRECTORY" -S "$LVM_RECORD_RELEASE" "$module" || true
    done
    for transcript in "$LVM_RECORD_DIRECTORY"/in/*.txt; do
        record "$transcript" >"$LVM_RECORD_DIRECTORY/out/$(basename "$transcript")"
    done
    touch "$LVM_RECORD_DIRECTORY/out/done"
    power_off
}

power_off() {
    sync
    echo o >/proc/sysrq-trigger
    sleep 1000
}

blank_disks() {
    umount -R /mnt/* 2>/dev/null
    vgs --noheadings -o vg_name 2>/dev/null | xargs -r vgremove -qq -ff -y >/dev/null 2>&1
    losetup -D
    rm -rf /mnt/* /dev/shm/*.img /etc/lvm/archive/* /etc/lvm/backup/*
    for number in "${!DISKS[@]}"; do
        truncate -s "${DISKS[number]}" "/dev/shm/$number.img"
        losetup "/dev/loop$number" "/dev/shm/$number.img"
    done
}

# What a boot does for LVM: volumes are there again, save those that carry the flag "skip activation".
reboot() {
    umount -R /mnt/* 2>/dev/null
    vgchange -qq -an >/dev/null 2>&1
    vgchange -qq -aay >/dev/null 2>&1
}

record() {
    blank_disks
    while IFS= read -r line; do
        case $line in
        '$ '*)
            local argv status=0
            eval "argv=(${line#'$ '})"
            printf '%s\n' "$line"
            "${argv[@]}" >/run/stdout 2>/run/stderr </dev/null || status=$?
            sed 's/^/> /' /run/stdout
            sed -e 's/^/! /' -e '/^! Usage: /q' /run/stderr # what follows is a screenful of options
            printf '= %s\n' "$status"
            ;;
        '> '* | '! '* | '= '*) ;; # the answers of before
        *) printf '%s\n' "$line" ;;
        esac
    done <"$1"
}

if [ $$ -eq 1 ]; then
    set +e
    inside
else
    outside "$@"
fi
