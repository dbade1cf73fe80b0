# The verbs of bricks/lvm.py: bricks as thin volumes. Loaded after verbs.sh, under its rules; some of its verbs are used here.
# Statuses besides those of verbs.sh: 77 a volume group lacks a disk, 78 the device holds something, 79 it is in use.
#
# LVM costs 50 ms and more at each start, so it is asked once in each script: csi_lvm_look keeps what it says in a file of
# this shell's own, and the verbs after it read their rows there. A row of a volume group has five fields between |, one of a
# volume nine: VG LV POOL TAGS SIZE ACTIVE DATA% METADATA% METADATASIZE. Names and tags hold no |.
# /run/gluster-csi.lvm.turn says something else before and after each of our changes on this host: while it says what
# FILE.turn says, the rows need not be asked for again.

# ARGUMENT...: LVM, without its word on files that this shell holds open.
csi_lvm() {
    local status
    case $1 in
        fullreport | lvs | vgs | pvs)
            LVM_SUPPRESS_FD_WARNINGS=1 lvm "$@"
            return
            ;;
    esac
    csi_lvm_turn
    LVM_SUPPRESS_FD_WARNINGS=1 lvm "$@"
    status=$?
    csi_lvm_turn
    return "$status"
}

# Something is changed: another turn. No shell has two within a hundredth of a second.
csi_lvm_turn() {
    local now
    read -r now </proc/uptime
    printf '%s %s\n' "$$" "${now%% *}" >/run/gluster-csi.lvm.turn
}

# VG...: have what LVM says of them in this shell's file.
csi_lvm_read() {
    local turn
    turn=
    { read -r turn </run/gluster-csi.lvm.turn; } 2>/dev/null
    csi_lvm_report "$@" >"/run/gluster-csi.lvm.$$" || return
    printf '%s\n' "$turn" >"/run/gluster-csi.lvm.$$.turn"
}

# Once more of the same volume groups, if a script of ours may have changed anything since.
csi_lvm_refresh() {
    local now turn
    now='' turn=none
    { read -r now </run/gluster-csi.lvm.turn; } 2>/dev/null
    { read -r turn <"/run/gluster-csi.lvm.$$.turn"; } 2>/dev/null
    [ "$now" = "$turn" ] || csi_lvm_reread
}

# Once more of the same volume groups.
csi_lvm_reread() {
    local groups
    groups=$(awk -F '|' 'NF == 5 { sub(/^ */, "", $1); print $1 }' "/run/gluster-csi.lvm.$$")
    # shellcheck disable=SC2086 # a list of names
    csi_lvm_read $groups
}

# VG...: what LVM says of them, a row each and a row for each of their volumes.
csi_lvm_report() {
    csi_lvm fullreport --noheadings --separator '|' --units b --nosuffix \
        --configreport vg -o vg_name,vg_tags,vg_missing_pv_count,vg_extent_count,vg_free_count \
        --configreport lv -o vg_name,lv_name,pool_lv,lv_tags,lv_size,lv_active,data_percent,metadata_percent,lv_metadata_size \
        --configreport pv -o pv_name --configreport pvseg -o pvseg_start --configreport seg -o segtype "$@"
}

# TAGS MARK: do the tags hold all those of the mark? An administrator may have others there.
csi_lvm_marked() {
    local tag IFS
    IFS=,
    for tag in $2; do
        case ,$1, in *,"$tag",*) ;; *) return 1 ;; esac
    done
}

# [VG MARK]...: look, and print it. Each of these volume groups must carry its mark.
csi_lvm_look() {
    local file names row status
    file=/run/gluster-csi.lvm.$$
    names=$(while [ "$#" -ge 2 ]; do printf ' %s' "$1"; shift 2; done)
    # shellcheck disable=SC2086 # a list of names
    csi_lvm_read $names
    status=$?
    # 5: it does not know one of them. Anything else, and the file may be that of another script.
    [ "$status" -eq 0 ] || [ "$status" -eq 5 ] || return "$status"
    cat -- "$file"
    while [ "$#" -ge 2 ]; do
        row=$(grep -m 1 "^ *$1|[^|]*|[0-9]*|[0-9]*|[0-9]* *\$" "$file")
        [ -n "$row" ] || { printf '%s\n' "$1" >&2; return 71; }
        row=${row#*|}
        csi_lvm_marked "${row%%|*}" "$2" || { printf '%s\n' "${row%%|*}" >&2; return 72; }
        row=${row#*|}
        [ "${row%%|*}" -eq 0 ] || return 77
        shift 2
    done
}

# [VG MARK]...: the same, for a script after this one too (csi_lvm_look_back).
csi_lvm_look_ahead() {
    local now turn file seen
    file=/run/gluster-csi.lvm.$$ seen=/run/gluster-csi.lvm.seen.$1
    read -r now </proc/uptime
    csi_lvm_look "$@" || return
    read -r turn <"$file.turn"
    { printf '%s %s|%s\n' "${now%%.*}" "$turn" "$*" && cat -- "$file"; } >"$seen.$$" && mv -f -- "$seen.$$" "$seen"
}

# [VG MARK]...: what csi_lvm_look_ahead saw of just these in the last ten seconds, if none of our scripts has changed anything on this
# host since; it is not printed. Otherwise a look. What others have changed is not noticed: never before anything is destroyed.
csi_lvm_look_back() {
    local now turn said
    now='' turn='' said=''
    read -r now </proc/uptime
    { read -r turn </run/gluster-csi.lvm.turn; } 2>/dev/null
    {
        read -r said && [ "${said#* }" = "$turn|$*" ] && [ "$((${now%%.*} - ${said%% *}))" -lt 10 ] &&
            cat >"/run/gluster-csi.lvm.$$" && printf '%s\n' "$turn" >"/run/gluster-csi.lvm.$$.turn" && return 0
    } 2>/dev/null <"/run/gluster-csi.lvm.seen.$1"
    csi_lvm_look "$@"
}

# VG LV: its row as the script's look saw it, or nothing.
csi_lvm_row() {
    grep -m 1 "^ *$1|$2|" "/run/gluster-csi.lvm.$$"
}

# VG LV POOL MOUNT TEXT...: is this brick ours, or not there? The tags of the volume (if it has none, those of its pool: LVM
# gives the pool the tags of a call that makes both), and brick.json if it is mounted, must each be one of the texts.
csi_lvm_ours() {
    local lv mount row pool tags line
    lv=$1/$2 pool=$3 mount=$4
    row=$(csi_lvm_row "$1" "$2")
    if [ -n "$row" ]; then
        row=${row#*|*|}
        pool=${row%%|*}
        row=${row#*|}
    fi
    tags=${row%%|*}
    if [ -z "$tags" ]; then
        line=$(csi_lvm_row "$1" "$pool")
        row=$row$line
        line=${line#*|*|*|}
        tags=${line%%|*}
    fi
    shift 4
    if [ -n "$row" ]; then
        csi_among "$tags" "$@" || { csi_evidence "/dev/$lv" "$tags"; return; }
    elif [ ! -e "$mount/brick.json" ] && csi_mounted "$mount"; then
        csi_evidence "$mount" ""
        return
    fi
    [ -e "$mount/brick.json" ] || return 0
    line=
    IFS= read -r line <"$mount/brick.json"
    csi_among "$line" "$@" || csi_evidence "$mount/brick.json" "$line"
}

# VG LV POOL TAGS METADATA POOLSIZE SIZE (KiB): make the pool and its volume, or what of them is not there yet.
csi_lvm_make() {
    local row tag size IFS
    row=$(csi_lvm_row "$1" "$2")
    if [ -n "$row" ]; then
        row=${row#*|*|*|*|}
        size=${row%%|*}
        row=${row#*|}
        if [ "$size" -ne "$((($7 * 1024 + 4194303) / 4194304 * 4194304))" ]; then
            printf '/dev/%s has %s bytes\n' "$1/$2" "$size" >&2
            return 75
        fi
        # -K: with the flag "skip activation" it would stay inactive, and the status be 0 all the same.
        [ "${row%%|*}" = active ] || csi_lvm lvchange -qq --autobackup=n -K -ay "$1/$2"
    elif [ -n "$(csi_lvm_row "$1" "$3")" ]; then
        csi_lvm_locked csi_lvm_widen "$1" "$3" "$2" "$(($6 * 1024))" || return
        csi_lvm lvcreate -qq --autobackup=n --thin "$1/$3" --virtualsize "$7K" --name "$2"
    else
        set -- "$4" --poolmetadatasize "$5K" --chunksize 256K --size "$6K" --thin "$1/$3" --virtualsize "$7K" --name "$2"
        IFS=,
        for tag in $1; do
            set -- "$@" --addtag "$tag"
        done
        shift
        csi_lvm lvcreate -qq --autobackup=n "$@"
    fi
}

# DEVICE MODE GID TEXT OPTION...: a file system with the directory `brick` of that mode (as in a prototype file, see mkfs.xfs(8))
# and group and the text as brick.json in it, unless there is one. mkfs.xfs marks what it has not finished.
csi_lvm_format() {
    local device part said force
    device=$1 part=/run/gluster-csi.proto.$$ force=
    if [ "$(head -c 4 -- "$device" | tr -d '\000')" = XFSB ]; then
        [ "$(od -A n -t u1 -j 126 -N 1 -- "$device")" -eq 0 ] && return 0
        force=-f
    fi
    printf '%s\n' "$4" >"$part.json" || return
    printf '%s\n' /dev/null '0 0' 'd--755 0 0' "brick $2 0 $3" '$' "brick.json ---644 0 0 $part.json" '$' >"$part" || return
    shift 4
    # shellcheck disable=SC2086 # one word or none
    said=$(mkfs.xfs -q -K $force "$@" -p "$part" "$device" 2>&1) || {
        printf '%s\n' "${said%%Usage: mkfs.xfs*}" >&2
        return 1
    }
}

# DEVICE MOUNT OPTIONS: mount it, on a directory that nobody can write to while nothing is mounted there.
csi_lvm_mount() {
    if [ -d "$2" ]; then
        csi_mounted "$2" && return 0
    else
        mkdir -p -- "$2" || return
    fi
    chattr +i -- "$2"
    mount -t xfs -o "$3" -- "$1" "$2"
}

# VG LV POOL TAGS TEXT METADATA POOLSIZE SIZE (KiB) MOUNT: make all of them at least so large, the file system too, while it is
# in use; then the tags and brick.json say who it is now. Nothing is ever cut off.
csi_lvm_grow() {
    local row pool size tags owner
    row=$(csi_lvm_row "$1" "$2")
    if [ -z "$row" ] || ! csi_mounted "$9"; then
        printf '%s\n' "$9" >&2
        return 76
    fi
    row=${row#*|*|}
    pool=${row%%|*} row=${row#*|}
    tags=${row%%|*} row=${row#*|}
    size=${row%%|*}
    owner=$1/$2
    row=$(csi_lvm_row "$1" "$pool")
    row=${row#*|*|*|}
    [ -n "$tags" ] || { tags=${row%%|*}; owner=$1/$pool; }
    row=${row#*|}
    csi_lvm_locked csi_lvm_widen "$1" "$pool" "$2" "$(($7 * 1024))" || return
    if [ "$size" -lt "$(($8 * 1024))" ]; then
        csi_lvm lvextend -qq --autobackup=n --size "$8K" "$1/$2" || return
    fi
    xfs_growfs -d "$9" >/dev/null || return
    csi_brick_say "$9/brick.json" "$9/brick.json.part" "$5" || return
    csi_lvm_retag "$owner" "$4" "$tags"
}

# NAME NEW OLD: give what has the OLD tags the NEW ones.
csi_lvm_retag() {
    local name tag IFS
    [ "$3" != "$2" ] || return 0
    name=$1
    IFS=,
    for tag in $3; do
        case ,$2, in *,"$tag",*) ;; *) set -- "$@" --deltag "$tag" ;; esac
    done
    for tag in $2; do
        set -- "$@" --addtag "$tag"
    done
    shift 3
    csi_lvm lvchange -qq --autobackup=n "$@" "$name"
}

# VG LV TAGS TEXT METADATA DATA (KiB) MOUNT: the pool of this volume has so much, or more; then the tags and brick.json say who
# it is now.
csi_lvm_extend_pool() {
    local row pool tags owner
    row=$(csi_lvm_row "$1" "$2")
    if [ -z "$row" ] || ! csi_mounted "$7"; then
        printf '%s\n' "$7" >&2
        return 76
    fi
    row=${row#*|*|}
    pool=${row%%|*} row=${row#*|}
    tags=${row%%|*}
    owner=$1/$2
    if [ -z "$tags" ]; then
        row=$(csi_lvm_row "$1" "$pool")
        row=${row#*|*|*|}
        tags=${row%%|*}
        owner=$1/$pool
    fi
    csi_lvm_locked csi_lvm_deepen "$1" "$pool" "$5" "$6" || return
    csi_brick_say "$7/brick.json" "$7/brick.json.part" "$4" || return
    csi_lvm_retag "$owner" "$3" "$tags"
}

# VG POOL METADATA DATA (KiB): under the lock, with a look of its own, since others may have enlarged it meanwhile.
csi_lvm_deepen() {
    local row data metadata
    row=$(csi_lvm lvs --noheadings --separator '|' --units b --nosuffix -o lv_size,lv_metadata_size -- "$1/$2") || return
    data=${row%%|*} metadata=${row#*|}
    metadata=$(($3 - metadata / 1024)) data=$((data / 1024))
    [ "$metadata" -gt 0 ] || metadata=0
    if [ "$data" -ge "$4" ]; then data=0; else data=$4; fi
    csi_lvm_extend "$1" "$2" "$data" "$metadata"
}

# [VG LV POOL]...: remove these volumes, then the pools that nothing is left in. LVM takes its lock once for each of the two.
csi_lvm_remove() {
    local volumes pools pool row
    volumes= pools=
    while [ "$#" -ge 3 ]; do
        row=$(csi_lvm_row "$1" "$2")
        pool=$3
        if [ -n "$row" ]; then
            volumes="$volumes $1/$2"
            row=${row#*|*|}
            pool=${row%%|*}
        fi
        [ -z "$(csi_lvm_row "$1" "$pool")" ] || pools="$pools $1/$pool"
        # One that lost its last volume in a try that ended there: it may have been any brick's that this one was copied from.
        pools="$pools $(awk -F '|' -v group="$1" '
            NF == 9 && sub(/^ */, "", $1) >= 0 && $1 == group { if ($3 != "") { used[$3] } else if ($2 ~ /^tp_/) { pool[$2] } }
            END { for (name in pool) { if (!(name in used)) { printf " %s/%s", group, name } } }
        ' "/run/gluster-csi.lvm.$$")"
        shift 3
    done
    pools=$(printf '%s\n' $pools | sort -u)
    # shellcheck disable=SC2086 # lists of names
    [ -z "$volumes" ] || csi_lvm lvremove -qq --autobackup=n -f $volumes || return
    # shellcheck disable=SC2086
    [ -z "$pools" ] || csi_lvm lvremove -qq --autobackup=n -f --select thin_count=0 $pools
}

# DEVICE: what it is and what is on it, as lines NAME=VALUE: size in bytes, signatures, volume group with tags and free extents.
csi_lvm_facts() {
    local program row
    for program in lvm wipefs blockdev mkfs.xfs xfs_growfs mount umount mkdir rmdir chattr flock awk grep od head; do
        command -v "$program" >/dev/null || { echo "missing=$program"; }
    done
    [ -e "$1" ] || { echo kind=missing; return 0; }
    [ -b "$1" ] || { echo kind=other; return 0; }
    echo kind=block
    row=$(blockdev --getsize64 "$1") && echo "size=$row"
    row=$(wipefs --noheadings --output TYPE -- "$1") && printf '%s\n' "$row" | sed -n 's/^ *\([^ ]\)/signature=\1/p'
    case $row in
        *LVM2_member*)
            csi_lvm pvs --noheadings --separator '|' -o vg_name,vg_tags,vg_extent_count -- "$1" | sed -n 's/^ */group=/p'
            ;;
    esac
}

# DEVICE VG MARK WIPE: make the device the volume group VG with these tags, unless it is. WIPE "yes": whatever is on it.
csi_lvm_claim() {
    local tags tag status
    tags=$(csi_lvm vgs --noheadings -o vg_tags -- "$2" 2>/dev/null) && {
        tags=${tags##* }
        csi_lvm_marked "$tags" "$3" && return 0
        printf '%s\n' "$tags" >&2
        return 72
    }
    if [ "$4" = yes ]; then
        tags=$(csi_lvm pvs --noheadings -o vg_name -- "$1" 2>/dev/null)
        if [ -n "${tags##* }" ]; then
            printf 'volume group %s\n' "${tags##* }" >&2
            return 78
        fi
        wipefs -q -a -- "$1" || return 79
    fi
    csi_lvm pvcreate -qq --metadatasize=128M --dataalignment=256K -- "$1" || return 78
    tag=$(printf ' --addtag %s' "$3" | sed 's/,/ --addtag /g')
    # shellcheck disable=SC2086 # a list of words
    csi_lvm vgcreate -qq --physicalextentsize=4M --autobackup=n $tag "$2" "$1"
    status=$?
    [ "$status" -eq 0 ] && return 0
    # Another may have been faster.
    tags=$(csi_lvm vgs --noheadings -o vg_tags -- "$2" 2>/dev/null) || return "$status"
    csi_lvm_marked "${tags##* }" "$3"
}

# DEVICE VG MARK: give the device back, if the volume group has the mark and holds no brick any more. One that is gone already
# is fine: of a try that ended between the two removals a physical volume without a group is left.
csi_lvm_release() {
    local tags disks group
    disks=$1
    # All of them: of one that it can't read LVM says the same as of one that is not there.
    tags=$(csi_lvm vgs --noheadings --separator '|' -o vg_name,vg_tags,lv_count) || return
    tags=$(printf '%s\n' "$tags" | grep -m 1 "^ *$2|")
    if [ -n "$tags" ]; then
        tags=${tags#*|}
        group=${tags#*|} tags=${tags%%|*}
        csi_lvm_marked "$tags" "$3" || { printf '%s\n' "$tags" >&2; return 72; }
        if [ "$((group))" -ne 0 ]; then
            csi_lvm lvs --noheadings -o lv_full_name -- "$2" >&2
            return 74
        fi
        # Disks change their names at a boot.
        disks=$(csi_lvm vgs --noheadings -o pv_name -- "$2") || return
        csi_lvm vgremove -qq -- "$2" || return 74
    fi
    for tags in $disks; do
        group=$(csi_lvm pvs --noheadings -o vg_name -- "$tags" 2>/dev/null) || continue
        # Whoever has it by now keeps it.
        [ -z "${group##* }" ] || continue
        csi_lvm pvremove -qq -- "$tags" || return
    done
    rm -f -- "/run/gluster-csi.lvm.seen.$2"
    [ ! -d "/var/lib/heketi/mounts/$2" ] || rmdir -- "/var/lib/heketi/mounts/$2" 2>/dev/null || return 0
}

# VG MARK [LV TAGS MOUNT TEXT]...: what Heketi made gets our mark, tags and brick.json, unless anybody's are there already.
csi_lvm_take_over() {
    local group mark tags row file
    group=$1 mark=$2 file=/run/gluster-csi.lvm.$$
    shift 2
    csi_lvm_read "$group" || { printf '%s\n' "$group" >&2; return 71; }
    row=$(grep -m 1 "^ *$group|[^|]*|[0-9]*|[0-9]*|[0-9]* *\$" "$file")
    row=${row#*|}
    csi_lvm_tag vgchange "$group" "${row%%|*}" "$mark" || return
    while [ "$#" -ge 4 ]; do
        row=$(csi_lvm_row "$group" "$1")
        if [ -z "$row" ] || ! csi_mounted "$3"; then
            printf '%s\n' "$3" >&2
            return 76
        fi
        row=${row#*|*|*|}
        csi_lvm_tag lvchange "$group/$1" "${row%%|*}" "$2" || return
        [ -e "$3/brick.json" ] || csi_brick_say "$3/brick.json" "$3/brick.json.part" "$4" || return
        shift 4
    done
}

# VERB NAME OLD NEW: give what has no tags these tags.
csi_lvm_tag() {
    local verb name tag IFS
    [ "$3" != "$4" ] || return 0
    verb=$1 name=$2
    [ -z "$3" ] || { csi_evidence "/dev/$name" "$3"; return; }
    set -- "$4"
    IFS=,
    for tag in $1; do
        set -- "$@" --addtag "$tag"
    done
    shift
    csi_lvm "$verb" -qq --autobackup=n "$@" "$name"
}
