# The verbs: shell functions that every long-lived shell is given once, when it is opened (hosts/shell.py loads this file).
# A script then calls them as if they were programs of the host: Command(("csi_NAME", "argument", ...)).
#
# Rules
# - POSIX sh as dash has it, plus `local`. No bashisms; it also has to run under bash --posix and busybox ash.
# - Names of functions begin with csi_; each has one comment line above it that tells its arguments and what it does.
# - All variables are `local`: the next script runs in this same shell. Assign on a line of its own
#   (local x; x=$(program)), since `local x=$(program)` hides the status of the program, and quote every "$x".
# - Say how it went with `return STATUS` and a line on stderr. Never `exit`, `exec`, `set`, `trap`, `cd` or `umask`:
#   they would change or end the shell. Where one of them is needed, put the body into a subshell: csi_x() ( ... ).
# - Arguments are data: never eval them, never as a printf format, and -- before those that a program could take for options.
# - Standard input is /dev/null unless the command has a stdin. A function with a stdin runs in a subshell.
# - Forks are what costs time (0.5 ms and more): [ ], case, printf, ${x#y}, $(( )) and functions are free, $(...) and | are not.
#   `read` takes one byte per system call from a pipe: good for small files of /proc and /sys only.
# - A line that begins with # is dropped before the shell sees it, also within quotes.
# - Never `: >file`: where a redirection of a special builtin fails the shell ends. printf '' >file returns its status.
# - Doing it twice must be harmless.

# --- bricks/file.py: images on a directory ---------------------------------------------------------------------------
# Statuses: 71 the device has no mark, 72 it has another's mark, 73 evidence against us (path and text on stderr),
# 74 busy, 75 the image has another size, 76 the brick is not there or not mounted.

# LINE TEXT...: is the line one of the texts?
csi_among() {
    local line text
    line=$1
    shift
    for text do
        [ "$line" = "$text" ] && return 0
    done
    return 1
}

# FILE LINE: a complaint that FILE says LINE. Always status 73.
csi_evidence() {
    printf '%s\n%s\n' "$1" "$2" >&2
    return 73
}

# MOUNT: is something mounted exactly there? The path must hold nothing that a regular expression gives a meaning.
csi_mounted() {
    grep -q "^[0-9]* [0-9]* [0-9]*:[0-9]* [^ ]* $1 " /proc/self/mountinfo
}

# MARK TEXT: does the mark of a device say exactly this?
csi_device_claimed() {
    local line
    line=
    { IFS= read -r line <"$1"; } 2>/dev/null
    [ "$line" = "$2" ] && return 0
    [ -e "$1" ] || return 71
    printf '%s\n' "$line" >&2
    return 72
}

# MARK TEXT: mark a device, unless it is marked already. A mark appears whole or not at all, and for one claimant only.
csi_device_claim() {
    local status
    csi_device_claimed "$1" "$2"
    status=$?
    [ "$status" -eq 71 ] || return "$status"
    printf '%s\n' "$2" >"$1.$$" && sync -- "$1.$$" || return
    ln -- "$1.$$" "$1" 2>/dev/null
    rm -f -- "$1.$$"
    csi_device_claimed "$1" "$2"
}

# DIRECTORY: what kind of thing it is, and which programs are missing for bricks on it, as lines NAME=VALUE.
csi_device_facts() {
    local program
    if [ -b "$1" ]; then
        echo kind=block
    elif [ -d "$1" ]; then
        echo kind=directory
    elif [ -e "$1" ]; then
        echo kind=other
    else
        echo kind=missing
    fi
    [ -e /dev/loop-control ] || echo missing=/dev/loop-control
    for program in mkfs.xfs xfs_growfs losetup truncate mount umount mkdir rmdir mv rm ln sync chattr flock awk grep stat find df; do
        command -v "$program" >/dev/null || echo "missing=$program"
    done
}

# STEM TEXT...: write the first text as the tag STEM.json, before anything else of the brick exists. A tag that is there
# already must be one of the texts. One write call of this size is seen whole or not at all: an empty tag is no tag.
# csi_made is the only variable that outlives its function: the image that csi_brick_format has made since, then where it is
# mounted. csi_brick_root need not look into that one, which takes this shell as long as starting a program.
csi_brick_tag() {
    local stem line
    stem=$1 csi_made=''
    shift
    line=
    { IFS= read -r line <"$stem.json"; } 2>/dev/null
    if [ -n "$line" ]; then
        csi_among "$line" "$@" || csi_evidence "$stem.json" "$line"
    elif [ -e "$stem.img" ]; then
        csi_evidence "$stem.img" ""
    else
        printf '%s\n' "$1" >"$stem.json" || {
            # On a full disk: rather no tag than half of one.
            printf '' >"$stem.json"
            return 1
        }
    fi
}

# STEM SIZE MODE GID OPTION...: make STEM.img, a file system with the directory `brick` of that mode (written as in a prototype
# file, see mkfs.xfs(8)) and group and the tag as brick.json in it. One that is there already must have that size.
# It is made under a name of this shell's own: a lost caller's shell may still be at it, and the first image stays.
csi_brick_format() {
    local stem part size mode gid found said tag
    stem=$1 part=$1.$$ size=$2 mode=$3 gid=$4
    shift 4
    if [ -e "$stem.img" ]; then
        found=$(stat -c %s -- "$stem.img") || return
        [ "$found" -eq "$size" ] && return 0
        printf '%s has %s bytes\n' "$stem.img" "$found" >&2
        return 75
    fi
    printf '%s\n' /dev/null '0 0' 'd--755 0 0' "brick $mode 0 $gid" '$' "brick.json ---644 0 0 $stem.json" '$' \
        >"$part.proto.part" || return
    # What an interrupted try left would be taken for a file system worth keeping.
    printf '' >"$part.img.part" || return
    # Beside mkfs.xfs: the one waits for the disk, the other computes.
    sync -- "$stem.json" &
    tag=$!
    said=$(mkfs.xfs -q -K "$@" -p "$part.proto.part" -d "file,name=$part.img.part,size=$size" 2>&1) || {
        # What it says first is the reason; the rest is a page about its options.
        printf '%s\n' "${said%%Usage: mkfs.xfs*}" >&2
        wait "$tag"
        return 1
    }
    wait "$tag" || return
    # Not mv, which would replace an image that another has put there meanwhile.
    if ln -- "$part.img.part" "$stem.img"; then csi_made=$stem; else [ -e "$stem.img" ]; fi
}

# STEM...: remove what interrupted tries left beside STEM.img.
csi_brick_sweep() {
    local stem part
    for stem do
        shift
        for part in "$stem".*.part; do
            [ -e "$part" ] && set -- "$@" "$part"
        done
    done
    [ "$#" -eq 0 ] || rm -f -- "$@"
}

# STEM MOUNT OPTIONS: mount STEM.img, on a directory that nobody can write to while nothing is mounted there.
csi_brick_mount() {
    if [ -d "$2" ]; then
        csi_mounted "$2" && return 0
    else
        mkdir -p -- "$2" || return
    fi
    # Not every file system knows this flag. The caller is told by what is on stderr.
    chattr +i -- "$2"
    mount -t xfs -o "$3" -- "$1.img" "$2" || return
    [ "$csi_made" != "$1" ] || csi_made=$2
}

# MOUNT MODE GID TEXT...: what must lie in a mounted brick: the directory, and as brick.json one of the texts.
csi_brick_root() {
    local mount mode gid line
    mount=$1 mode=$2 gid=$3
    shift 3
    [ "$csi_made" != "$mount" ] || return 0
    line=
    { IFS= read -r line <"$mount/brick.json"; } 2>/dev/null
    if [ -z "$line" ]; then
        printf '%s\n' "$1" >"$mount/brick.json" || return
    elif ! csi_among "$line" "$@"; then
        csi_evidence "$mount/brick.json" "$line"
        return
    fi
    # A directory that is there keeps its owner and mode: it is the root of the volume, and users may have changed it.
    [ -d "$mount/brick" ] || install -d -m "$mode" -g "$gid" -- "$mount/brick"
}

# FILE PART TEXT: the file says TEXT, written under the name PART first, so that it says the old or the new at any time.
csi_brick_say() {
    local line
    line=
    { IFS= read -r line <"$1"; } 2>/dev/null
    [ "$line" = "$3" ] && return 0
    printf '%s\n' "$3" >"$2" && sync -- "$2" && mv -- "$2" "$1"
}

# FILE PART TEXT: the file says TEXT. A line of the same length is written in place, and not flushed: a power cut may bring back
# the old one, or one of its figures, which is known as ours all the same, for sizes are no part of whose a brick is. Where
# more than sizes changes, the caller flushes. A line of another length could be cut short, so csi_brick_say writes it.
csi_brick_correct() {
    local line
    line=
    { IFS= read -r line <"$1"; } 2>/dev/null
    if [ -n "$line" ] && [ "${#line}" -eq "${#3}" ]; then
        [ "$line" = "$3" ] || printf '%s\n' "$3" 1<>"$1"
    else
        csi_brick_say "$1" "$2" "$3"
    fi
}

# SAID FILE PART TEXT: as csi_brick_correct, of a file of which csi_brick_grow knows what it says.
csi_brick_amend() {
    case $1 in
        new) ;;
        alike) printf '%s\n' "$4" 1<>"$2" ;;
        *) csi_brick_correct "$2" "$3" "$4" ;;
    esac
}

# STEM MOUNT SIZE TEXT...: STEM.img, its loop device and the file system in it have at least SIZE bytes, while it is in use;
# then its tag and brick.json say the first text. Before that each must be one of the texts. Nothing is ever cut off. Each
# part is done again if it may have been done already: a size that one of them has says nothing of the next.
csi_brick_grow() {
    local stem mount size seen loop tag root
    stem=$1 mount=$2 size=$3 seen=/run/gluster-csi.seen.$$
    shift 3
    # One look, by one program, since reading a tag of a kilobyte takes this shell as long as starting one, and into a file,
    # since a copy of this shell takes as long again. It finds the device that is mounted, or -, and whether each tag says the
    # first text (`new`), another (`alike` if it is as long, `known` if not), or something else (`strange`).
    awk 'function said(file, line, i) {
            line = ""
            getline line <file
            close(file)
            for (i = 4; i < ARGC && line != ARGV[i]; i++);
            if (i == ARGC) return "strange"
            return i == 4 ? "new" : length(line) == length(ARGV[4]) ? "alike" : "known"
        }
        BEGIN {
            loop = "-"
            while ((getline <"/proc/self/mountinfo") > 0) {
                if ($5 == ARGV[1]) { for (i = 7; $i != "-" && i < NF; i++); loop = $(i + 2) }
            }
            print loop, said(ARGV[2]), said(ARGV[3])
        }' "$mount" "$stem.json" "$mount/brick.json" "$@" >"$seen" && read -r loop tag root <"$seen" || return
    case "$tag $root" in
        *strange*) csi_brick_ours "$stem" "$mount" "$@" || return ;;
    esac
    if [ "$loop" = - ] || [ ! -e "$stem.img" ]; then
        printf '%s\n' "$mount" >&2
        return 76
    fi
    # ">": at least. The flush that makes the grown file system durable makes the size of the image durable too.
    truncate -c -s ">$size" -- "$stem.img" && losetup -c "$loop" && xfs_growfs -d "$mount" >/dev/null || return
    csi_brick_amend "$tag" "$stem.json" "$stem.$$.json.part" "$1" &&
        csi_brick_amend "$root" "$mount/brick.json" "$mount/brick.json.part" "$1"
}

# FSTAB ENTRY...: an entry is a whole line that is to be there, in place of another for its mount point, or a mount point
# whose line is to go. The file is replaced as a whole, by one script of ours at a time, and is on the disk before it is.
csi_fstab() {
    local fstab status
    fstab=$1
    shift
    {
        flock 9 || return
        [ -e "$fstab" ] || printf '' >"$fstab" || return
        awk 'BEGIN {
                for (i = 2; i < ARGC; i++) {
                    n = split(ARGV[i], field, " ")
                    if (n == 1) { gone[field[1]] = 1 } else { order[++count] = field[2]; want[field[2]] = ARGV[i] }
                    ARGV[i] = ""
                }
            }
            $1 !~ /^#/ && ($2 in gone) { changed = 1; next }
            $1 !~ /^#/ && ($2 in want) {
                if ($0 == want[$2] && !($2 in there)) { there[$2] = 1; print } else { changed = 1 }
                next
            }
            { print }
            END {
                for (i = 1; i <= count; i++) if (!(order[i] in there)) { print want[order[i]]; changed = 1 }
                exit changed ? 0 : 3
            }' "$fstab" "$@" >"$fstab.part"
        status=$?
        if [ "$status" -eq 0 ]; then
            sync -- "$fstab.part" && mv -- "$fstab.part" "$fstab"
            return
        fi
        rm -f -- "$fstab.part"
        [ "$status" -eq 3 ]
    } 9>/run/gluster-csi.fstab.lock
}

# STEM MOUNT TEXT...: may this brick be destroyed? Its tag, and brick.json if it is mounted, must each be one of the texts.
# Without a tag there must be no image and nothing of another's mounted.
csi_brick_ours() {
    local stem mount line
    stem=$1 mount=$2
    shift 2
    line=
    { IFS= read -r line <"$stem.json"; } 2>/dev/null
    if [ -n "$line" ]; then
        csi_among "$line" "$@" || { csi_evidence "$stem.json" "$line"; return; }
    elif [ -e "$stem.img" ]; then
        csi_evidence "$stem.img" ""
        return
    elif [ ! -e "$mount/brick.json" ] && csi_mounted "$mount"; then
        csi_evidence "$mount" ""
        return
    fi
    [ -e "$mount/brick.json" ] || return 0
    line=
    IFS= read -r line <"$mount/brick.json"
    csi_among "$line" "$@" || csi_evidence "$mount/brick.json" "$line"
}

# MOUNT...: unmount what is mounted there; what is busy is tried again for two seconds. Never lazily: the image goes next.
csi_brick_unmount() {
    local mount tries said
    for mount do
        tries=0
        # Most are mounted, and once: so it is tried first, and looked at only when that did not do it.
        umount -- "$mount" 2>/dev/null && ! csi_mounted "$mount" && continue
        while csi_mounted "$mount"; do
            said=$(umount -- "$mount" 2>&1) && continue
            tries=$((tries + 1))
            if [ "$tries" -ge 20 ]; then
                printf '%s\nheld by processes:' "$said" >&2
                fuser -m "$mount" >&2 2>/dev/null
                return 74
            fi
            sleep 0.1
        done
    done
}

# MOUNT...: remove these mount points, where they are there.
csi_brick_unpoint() {
    local mount
    for mount do
        shift
        [ -d "$mount" ] && set -- "$@" "$mount"
    done
    [ "$#" -gt 0 ] || return 0
    chattr -i -- "$@" 2>/dev/null
    rmdir -- "$@"
}

# --- gluster/adapter.py: the processes of a volume that is being deleted ----------------------------------------------

# PID VOLUME: is this process a brick of that volume, by its own command line (--volfile-id VOLUME.HOST.PATH)? A volume's
# name holds [A-Za-z0-9_-] only.
csi_brick_process() {
    grep -q -s -z -e "^$2\." "/proc/$1/cmdline"
}

# PID: does the process still run? One that has ended may stay as a zombie for a second or more.
csi_process_runs() {
    local line
    line=
    { IFS= read -r line <"/proc/$1/stat"; } 2>/dev/null
    case ${line##*) } in
        '' | [ZX]*) return 1 ;;
    esac
}

# TRIES PID...: wait for the end of these processes, so many times 5 ms for all. Status 1: one still runs.
csi_await_end() {
    local pid tries
    tries=$1
    shift
    for pid do
        while csi_process_runs "$pid"; do
            [ "$tries" -gt 0 ] || return 1
            tries=$((tries - 1))
            sleep 0.005
        done
    done
}

# VOLUME: end its rebalance on this host. glusterd's own `rebalance stop` reaches only the processes that it is connected to, and
# one that has only just begun looks for its bricks for ever. (In brackets, so that grep does not find itself.)
csi_end_rebalance() {
    local file pid pids
    [ -d "/var/lib/glusterd/vols/$1/rebalance" ] || return 0
    pids=
    for file in $(grep -l -s -z -x -e "rebalanc[e]/$1" /proc/[0-9]*/cmdline); do
        pid=${file#/proc/} pid=${pid%/cmdline}
        kill -TERM "$pid" 2>/dev/null && pids="$pids $pid"
    done
    # shellcheck disable=SC2086 # a list of numbers, here and below
    csi_await_end 200 $pids && return 0
    kill -KILL $pids 2>/dev/null
    csi_await_end 100 $pids || return 0
}

# VOLUME: end the volume's brick processes on this host, its rebalance before them, and wait for their end, two seconds at the
# most. A process that serves bricks of other volumes too (multiplexing) is left alone; one that does not end is left to
# `volume stop`.
csi_end_bricks() {
    local file pid pids
    csi_end_rebalance "$1"
    pids=
    for file in /var/run/gluster/vols/"$1"/*.pid; do
        pid=
        { IFS= read -r pid <"$file"; } 2>/dev/null
        case $pid in
            '' | *[!0-9]*) continue ;;
        esac
        [ "$(grep -s -l -x -e "$pid" /var/run/gluster/vols/*/*.pid)" = "$file" ] || continue
        csi_brick_process "$pid" "$1" || continue
        kill -TERM "$pid" 2>/dev/null && pids="$pids $pid"
    done
    # shellcheck disable=SC2086
    csi_await_end 300 $pids || return 0
}
