# Verbs for the files of a volume, seen as a client sees them. The rules of verbs.sh hold here too.

# --- gluster/regrouping.py: files get another group ------------------------------------------------------------------
# The work goes on while nobody waits, in a process group of its own with a directory for it; it ends itself, with all that
# it runs, when nobody has asked for LEASE minutes. The mount is seen by it alone, and the client is in a process namespace
# that dies with it: whatever becomes of it or of us, neither stays.
# chgrp takes the set-id bits from files. So their mode is noted on the file itself before that, in an attribute that no
# client can set but root of a node, and the root directory is marked until all is done: who finds that mark looks for
# files that an earlier try left without their bits.

# DIRECTORY: does the work with this directory go on?
csi_regroup_lives() {
    local pid
    pid=
    { read -r pid <"$1/pid"; } 2>/dev/null
    case $pid in
        '' | *[!0-9]*) return 1 ;;
    esac
    grep -q -s -z -x -F -e "$1" "/proc/$pid/cmdline"
}

# DIRECTORY: end it, and leave nothing of it.
csi_regroup_end() {
    local pid
    pid=
    csi_regroup_lives "$1" && read -r pid <"$1/pid" && kill -s KILL -- "-$pid"
    # Not with -r: whatever went wrong, no file of a volume is removed.
    rm -f -- "$1/pid" "$1/asked" "$1/count" "$1/bad" "$1/ended" "$1/ended.part" "$1/said" "$1/client.log"
    rmdir -- "$1/mount" "$1" 2>/dev/null
    [ ! -d "$1" ]
}

# DIRECTORY SERVER VOLUME OLD NEW SECONDS LEASE: all files of this volume whose group is OLD get NEW. Goes on with it, or
# begins; waits for SECONDS at most; prints how many got it so far, and whether that was all: "COUNT done" or "COUNT more".
# Status 1: it failed, and nothing goes on.
csi_regroup() {
    local dir tries status pid
    dir=$1
    if ! csi_regroup_lives "$dir" && [ ! -e "$dir/ended" ]; then
        csi_regroup_end "$dir"
        mkdir -m 0700 -p -- "$dir" "$dir/mount" && printf '' >"$dir/count" && printf '' >"$dir/asked" || return
        work=$csi_regroup_work restore=$csi_regroup_restore setids=$csi_regroup_setids new=$5 dir=$dir \
            setsid sh -c "$csi_regroup_keeper" csi-regroup "$@" </dev/null >"$dir/said" 2>&1 &
        printf '%s\n' "$!" >"$dir/pid"
    fi
    touch -- "$dir/asked"
    read -r pid <"$dir/pid" || return
    tries=$(($6 * 10))
    # Not by its words: just begun it has still those of this shell.
    while [ ! -e "$dir/ended" ] && [ "$tries" -gt 0 ] && [ -e "/proc/$pid" ]; do
        sleep 0.1
        tries=$((tries - 1))
    done
    status=more
    if [ -e "$dir/ended" ]; then
        read -r status <"$dir/ended"
    elif [ ! -e "/proc/$pid" ]; then
        status=1
    fi
    case $status in
        more) awk '{ n += $1 } END { print n + 0, "more" }' "$dir/count" ;;
        0)
            awk '{ n += $1 } END { print n + 0, "done" }' "$dir/count"
            csi_regroup_end "$dir"
            ;;
        *)
            tail -n 5 -- "$dir/said" >&2
            [ -s "$dir/said" ] || tail -n 5 -- "$dir/client.log" >&2
            csi_regroup_end "$dir"
            return 1
            ;;
    esac
}

# DIRECTORY SERVER VOLUME OLD NEW SECONDS LEASE: run the work until it ends, or nobody asks for it any more. Then all of it goes.
csi_regroup_keeper='
    lease=$7 pause=0.2
    unshare --mount --propagation private --pid --fork --kill-child sh -c "$work" csi-regroup-work "$@" &
    job=$!
    while kill -0 "$job" 2>/dev/null && [ -n "$(find "$dir/asked" -mmin "-$lease")" ]; do
        sleep "$pause"
        [ "$pause" = 2 ] || pause=2
    done
    if ! kill -s KILL "$job" 2>/dev/null; then
        wait "$job"
        printf "%s\n" "$?" >"$dir/ended.part" && mv -- "$dir/ended.part" "$dir/ended"
        while [ -n "$(find "$dir/asked" -mmin "-$lease")" ]; do
            sleep 2
        done
    fi
    rm -f -- "$dir/pid" "$dir/asked" "$dir/count" "$dir/bad" "$dir/ended" "$dir/said" "$dir/client.log"
    rmdir -- "$dir/mount" "$dir"
'

# DIRECTORY SERVER VOLUME OLD NEW: mount, walk, regroup; everything that it runs ends with it.
csi_regroup_work='
    outside=$(stat -c %d -- "$1/mount") || exit 1
    mark=trusted.gluster-csi.regroup tries=0
    glusterfs --no-daemon --log-level=WARNING --log-file="$1/client.log" --no-root-squash=yes \
        --volfile-server="$2" --volfile-id="$3" "$1/mount" &
    client=$!
    while [ "$(stat -c %d -- "$1/mount" 2>/dev/null || echo "$outside")" = "$outside" ]; do
        tries=$((tries + 1))
        if [ "$tries" -gt 600 ] || ! kill -0 "$client" 2>/dev/null; then
            echo "volume $3 could not be mounted from $2: $(grep -m 1 " E \[" -- "$1/client.log")"
            exit 1
        fi
        sleep 0.05
    done
    cd -- "$1/mount" || exit 1
    if getfattr -h --absolute-names -n "$mark" -- . >/dev/null 2>&1; then
        find . -xdev -type f -gid "$5" -exec sh -c "$restore" csi-regroup {} + || exit 1
    else
        setfattr -h -n "$mark" -v 1 -- . || exit 1
    fi
    {
        find . -xdev -gid "$4" "(" -type f -perm /6000 -exec sh -c "$setids" csi-regroup {} + -o -print0 ")" \
            || printf "%s\n" "$?" >"$dir/bad"
    } | xargs -0 -r -n 200 -P 4 \
        sh -c "chgrp -h -- \"\$new\" \"\$@\" && echo \"\$#\" >>\"\$dir/count\"" csi-regroup || exit 1
    [ ! -e "$dir/bad" ] && setfattr -h -x "$mark" -- .
'

# FILE...: those that an earlier try left in the middle get their bits back.
csi_regroup_restore='
    mode=trusted.gluster-csi.mode
    for file do
        bits=$(getfattr -h --absolute-names --only-values -n "$mode" -- "$file" 2>/dev/null) || continue
        case $bits in
            "" | *[!0-7]*) continue ;;
        esac
        chmod -- "$bits" "$file" && setfattr -h -x "$mode" -- "$file" || exit 1
    done
'

# FILE...: these have set-id bits, and keep them.
csi_regroup_setids='
    mode=trusted.gluster-csi.mode
    for file do
        bits=$(stat -c %a -- "$file") && setfattr -h -n "$mode" -v "$bits" -- "$file" && chgrp -h -- "$new" "$file" \
            && chmod -- "$bits" "$file" && setfattr -h -x "$mode" -- "$file" || exit 1
    done
    echo "$#" >>"$dir/count"
'
