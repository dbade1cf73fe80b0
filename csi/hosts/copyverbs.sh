# Verbs for copies of bricks, and for what must end by itself. The rules of verbs.sh hold here too.

# --- what ends by itself ---------------------------------------------------------------------------------------------
# A watch is a process in a session of its own, so it outlives the shell that began it, and whatever ends that. Its file
# is what both sides reach for: who removes it has won. Status 78: the watch was first, or there was none.

# NAME SECONDS BODY WORD...: run the shell text BODY, a verb's own, with the words as arguments in SECONDS, unless csi_unwatch
# comes first.
csi_watch() {
    local file seconds body
    file=/run/gluster-csi.watch.$1 seconds=$2 body=$3
    csi_unwatch "$1"
    shift 3
    printf '\n' >"$file" || return
    setsid sh -c 'sleep "$1"; rm -- "$2" 2>/dev/null || exit 0; shift 2
        '"$body" csi-watch "$seconds" "$file" "$@" </dev/null >/dev/null 2>&1 &
    printf '%s\n' "$!" >"$file"
}

# NAME: end a watch.
csi_unwatch() {
    local file pid
    file=/run/gluster-csi.watch.$1 pid=
    { read -r pid <"$file"; } 2>/dev/null
    rm -- "$file" 2>/dev/null || return 78
    case $pid in
        '' | *[!0-9]*) return 0 ;;
    esac
    grep -q -s -z -x -e csi-watch "/proc/$pid/cmdline" && kill -s KILL -- "-$pid"
    return 0
}

# --- bricks/filecopies.py: copies of images --------------------------------------------------------------------------
# Statuses: 73 evidence against us, 78 too late, 79 the file system of the device cannot share blocks.

# MOUNT...: print noted=no if gluster has noted down in none of these bricks that a file waits to be healed, or else noted=yes. It has
# a file for each of those.
csi_noted() {
    local mount file noted
    noted=no
    for mount do
        for file in "$mount"/brick/.glusterfs/indices/xattrop/* "$mount"/brick/.glusterfs/indices/dirty/*; do
            case ${file##*/} in
                '*' | xattrop-* | dirty-*) ;;
                *) noted=yes ;;
            esac
        done
    done
    echo "noted=$noted"
}

# STEM MOUNT [STEM MOUNT]...: write out what waits in these bricks, side by side. Prints the line of csi_noted for each, then of each
# what its image takes, in blocks and bytes of a block.
csi_bricks_flush() {
    local count pid pids status
    count=$# pids='' status=0
    while [ "$count" -gt 0 ]; do
        sync -f -- "$2/brick.json" && sync -f -- "$1.img" &
        pids="$pids $!"
        csi_noted "$2"
        set -- "$@" "$1.img"
        shift 2
        count=$((count - 2))
    done
    # Never a bare `wait`: a watch may run.
    for pid in $pids; do
        wait "$pid" || status=1
    done
    [ "$status" -eq 0 ] && stat -c '%b %B' -- "$@"
}

# PATH...: these copies are on the disk; print of each what it takes, in bytes.
csi_copies_seal() {
    sync -f -- "$@" && stat -c '%b %B' -- "$@"
}

# STEM TEXT...: write the first text as the tag STEM.copy-of, before the copy STEM.copy is there; csi_bricks_freeze flushes it. One
# that is there already must be one of the texts.
csi_copy_tag() {
    local stem line
    stem=$1
    shift
    line=
    { IFS= read -r line <"$stem.copy-of"; } 2>/dev/null
    if [ -n "$line" ]; then
        csi_among "$line" "$@" || csi_evidence "$stem.copy-of" "$line"
    elif [ -e "$stem.copy" ]; then
        csi_evidence "$stem.copy" ""
    else
        printf '%s\n' "$1" >"$stem.copy-of" || {
            printf '' >"$stem.copy-of"
            return 1
        }
    fi
}

# STEM TEXT...: may this copy be used, or destroyed? Its tag must be one of the texts. Without a tag there must be no copy.
csi_copy_ours() {
    local stem line
    stem=$1
    shift
    line=
    { IFS= read -r line <"$stem.copy-of"; } 2>/dev/null
    if [ -n "$line" ]; then
        csi_among "$line" "$@" || csi_evidence "$stem.copy-of" "$line"
    elif [ -e "$stem.copy" ]; then
        csi_evidence "$stem.copy" ""
    fi
}

# NAME SECONDS MOUNT TAG [MOUNT TAG]...: freeze these bricks, side by side, and flush the tags of what will be their copies. They
# thaw in SECONDS by themselves.
csi_bricks_freeze() {
    local name seconds count mount pid pids status
    name=$1 seconds=$2
    shift 2
    count=$# pids=
    while [ "$count" -gt 0 ]; do
        sync -- "$2" &
        pids="$pids $!"
        set -- "$@" "$1"
        shift 2
        count=$((count - 2))
    done
    csi_watch "freeze.$name" "$seconds" 'for mount do fsfreeze --unfreeze "$mount"; done' "$@" || return
    status=0
    for mount do
        fsfreeze --freeze "$mount" &
        pids="$pids $!"
    done
    for pid in $pids; do
        wait "$pid" || status=1
    done
    return "$status"
}

# NAME MOUNT...: thaw them. The watch goes last: it is there as long as anything may be frozen.
csi_bricks_thaw() {
    local name mount
    name=$1
    shift
    for mount do
        fsfreeze --unfreeze "$mount" 2>/dev/null
    done
    csi_unwatch "freeze.$name"
}

# FILE COPY [FILE COPY]...: each copy shares all blocks of its file, as it is now. What is there already is replaced.
csi_share() {
    local pid pids status
    pids= status=0
    while [ "$#" -gt 1 ]; do
        cp --reflink=always -- "$1" "$2" &
        pids="$pids $!"
        shift 2
    done
    for pid in $pids; do
        wait "$pid" || status=79
    done
    return "$status"
}

# COPY STEM: STEM.img shares all blocks of the copy, unless it is there. It gets its name when it is whole, and its tag is on the
# disk by then.
csi_brick_fill() {
    local tag
    [ -e "$2.img" ] && return 0
    rm -f -- "$2.$$.img.part"
    sync -- "$2.json" &
    tag=$!
    csi_share "$1" "$2.$$.img.part" || return
    wait "$tag" || return
    ln -- "$2.$$.img.part" "$2.img" || [ -e "$2.img" ]
}

# STORAGE MOUNT OPTIONS TEXT: the brick in this image or block device, which is a copy of another, gets TEXT as brick.json and loses the marks of gluster.
# It is mounted for that where nobody else sees it, and whatever becomes of us it is gone from there with this process.
# One that is mounted at MOUNT has been through this. The flush of brick.json goes down to the device: the copy is on the disk then.
csi_brick_adopt() {
    if [ -d "$2" ]; then
        csi_mounted "$2" && return 0
    else
        mkdir -p -- "$2" || return
    fi
    unshare --mount --propagation private sh -c '
        mount -t xfs -o "$3" -- "$1" "$2" || exit
        line=
        IFS= read -r line <"$2/brick.json"
        if [ "$line" != "$4" ]; then
            for mark in trusted.glusterfs.volume-id trusted.gfid; do
                said=$(setfattr -x "$mark" -- "$2/brick" 2>&1) && continue
                case $said in
                    *"No such attribute"*) ;;
                    *) echo "$said" >&2; exit 1 ;;
                esac
            done
            printf "%s\n" "$4" >"$2/brick.json.part" && sync -- "$2/brick.json.part" || exit
            mv -- "$2/brick.json.part" "$2/brick.json" || exit
        fi
        umount -- "$2"
    ' csi-adopt "$1" "$2" "$3" "$4"
}

# --- gluster/barrier.py ----------------------------------------------------------------------------------------------

# NAME SECONDS VOLUME...: see to it that the barriers of these volumes are off in SECONDS, unless csi_barrier_unwatch comes first. It is
# tried until glusterd, which may be down just then, says that they are.
csi_barrier_watch() {
    local name seconds
    name=$1 seconds=$2
    shift 2
    csi_watch "barrier.$name" "$seconds" '
        tries=0
        while [ "$tries" -lt 100 ]; do
            left=
            for volume do
                gluster --mode=script volume barrier "$volume" disable
                case $(gluster --mode=script volume info "$volume" 2>&1) in
                    *"features.barrier: enable"* | *"Connection failed"*) left=yes ;;
                esac
            done
            [ "$left" ] || exit 0
            tries=$((tries + 1))
            sleep 1
        done
        ' "$@"
}

# NAME: they are off; the watch need not do it. Status 78: it has.
csi_barrier_unwatch() {
    csi_unwatch "barrier.$1"
}
