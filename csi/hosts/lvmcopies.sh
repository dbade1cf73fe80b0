# The verbs of bricks/lvmcopies.py: copies of bricks as thin snapshots. Loaded after lvm.sh, under its rules.
#
# A pool must hold all that its volumes may come to hold: csi_lvm_shares says how much that is, from the report alone. A brick
# may hold its size. A copy may hold what was in its origin when it was made, which its tag csi.share says (KiB), since LVM
# does not know it of what is inactive. All who enlarge a pool or put a volume in one that is there hold csi_lvm_locked.

# COMMAND...: run it while no other script of ours on this host runs what it runs under this.
csi_lvm_locked() {
    {
        flock 9 && "$@" 9>&-
    } 9>/run/gluster-csi.lvm.lock
}

# VG LV: bytes that are in this thin volume, if it is active. Newer than what a look said, and to the block.
csi_lvm_held() {
    local line
    line=$(dmsetup status --target thin -- "$1-$2" 2>/dev/null)
    case $line in
        *' thin '[0-9]*) line=${line##* thin }; printf '%s\n' "$((${line%% *} * 512))" ;;
    esac
}

# VG LV NEW [SIZE [HELD]]: what making NEW of LV, or giving NEW a share of SIZE bytes in the pool LV, takes: the words POOL SHARE DATA
# METADATA, which are the share of NEW in KiB, and what the pool must have and lack, in KiB: 0 if it has it. What is to be there counts
# once. HELD: bytes that are in LV, if they are known.
csi_lvm_shares() {
    awk -F '|' -v group="$1" -v origin="$2" -v new="$3" -v asked="${4:-0}" -v held="$5" '
        function up(bytes, unit) { return int((bytes + unit - 1) / unit) * unit }
        function share(name) {
            if (name !~ /^brick_/ && match(tags[name], /csi[.]share=[0-9]+/)) {
                return substr(tags[name], RSTART + 10, RLENGTH - 10) * 1024
            }
            return size[name]
        }
        NF == 9 {
            sub(/^ */, "", $1)
            sub(/ *$/, "", $9)
            if ($1 != group) { next }
            pool[$2] = $3; tags[$2] = $4; size[$2] = $5; data[$2] = $7; metadata[$2] = $9
        }
        END {
            if (!(origin in pool)) { exit 1 }
            into = pool[origin] != "" ? pool[origin] : origin
            extent = 4194304
            own = asked > 0 ? asked : share(origin)
            if (asked == 0 && new ~ /^brick_/) { own = size[origin] }
            if (held == "" && data[origin] != "") { held = size[origin] * (data[origin] + 0.01) / 100 }
            if (new !~ /^brick_/ && held != "" && origin ~ /^brick_/) {
                own = held * 1.05 + 4 * extent
                if (own > size[origin]) { own = size[origin] }
            }
            promised = own
            for (name in pool) {
                if (pool[name] == into && name != new) { promised += share(name) }
            }
            need = up(promised, extent)
            needed = up(need / 200, extent)
            if (needed > 17179869184) { needed = 17179869184 }
            more = need > size[into] + 0 ? need / 1024 : 0
            lacking = needed > metadata[into] + 0 ? (needed - metadata[into]) / 1024 : 0
            printf "%s %.0f %.0f %.0f\n", into, up(own, 1024) / 1024, more, lacking
        }
    ' "/run/gluster-csi.lvm.$$"
}

# VG POOL LV SIZE: the pool can hold SIZE bytes of LV besides all that is promised to others.
csi_lvm_widen() {
    local words
    csi_lvm_refresh || return
    words=$(csi_lvm_shares "$1" "$2" "$3" "$4") || return
    # shellcheck disable=SC2086
    set -- "$1" $words
    csi_lvm_extend "$1" "$2" "$4" "$5"
}

# VG POOL DATA METADATA: give the pool so much data, and so much more metadata, in KiB; 0 for none. The rows say so then.
csi_lvm_extend() {
    local vg pool data more file
    vg=$1 pool=$2 data=$3 more=$4 file=/run/gluster-csi.lvm.$$
    set --
    [ "$more" -eq 0 ] || set -- --poolmetadatasize "+${more}K"
    [ "$data" -eq 0 ] || set -- "$@" --size "${data}K"
    [ "$#" -gt 0 ] || return 0
    csi_lvm lvextend -qq --autobackup=n "$@" "$vg/$pool" || return
    awk -F '|' -v OFS='|' -v vg="$vg" -v pool="$pool" -v data="$data" -v more="$more" '
        NF == 9 && $2 == pool && $1 ~ "^ *" vg "$" { if (data > 0) { $5 = data * 1024 } $9 = $9 + more * 1024 }
        { print }
    ' "$file" >"$file.part" && mv -- "$file.part" "$file"
}

# replace|keep VG LV NEW TAGS...: thin snapshots, of which the pools can hold all that they may come to hold. What is there
# already is replaced or kept. Prints the share of each that is made, in KiB.
csi_lvm_copy() {
    csi_lvm_locked csi_lvm_copies "$@"
}

# replace|keep VG LV NEW TAGS...: the same, under the lock.
csi_lvm_copies() {
    local file mode vg lv new tags words row
    file=/run/gluster-csi.lvm.$$ mode=$1
    shift
    csi_lvm_refresh || return
    while [ "$#" -ge 4 ]; do
        vg=$1 lv=$2 new=$3 tags=$4
        shift 4
        row=$(csi_lvm_row "$vg" "$new")
        if [ -n "$row" ]; then
            [ "$mode" = replace ] || continue
            csi_lvm_unchanged "$vg" "$new" "$row" || return
            csi_lvm lvremove -qq --autobackup=n -f "$vg/$new" || return
            grep -v "^ *$vg|$new|" "$file" >"$file.part"
            mv -- "$file.part" "$file" || return
        fi
        words=$(csi_lvm_shares "$vg" "$lv" "$new" 0 "$(csi_lvm_held "$vg" "$lv")") || { printf '/dev/%s/%s is not there\n' "$vg" "$lv" >&2; return 79; }
        # shellcheck disable=SC2086 # a list of words
        csi_lvm_snap "$vg" "$lv" "$new" "$tags" "$file" $words || return
    done
}

# VG LV ROW: looked at again, has it the tags that it had? What is removed must be ours now.
csi_lvm_unchanged() {
    local row was
    was=${3#*|*|*|}
    csi_lvm_reread || return
    row=$(csi_lvm_row "$1" "$2")
    row=${row#*|*|*|}
    [ "${row%%|*}" = "${was%%|*}" ] || csi_evidence "/dev/$1/$2" "${row%%|*}"
}

# VG LV NEW TAGS FILE POOL SHARE DATA METADATA: one of them, and its row in the report.
csi_lvm_snap() {
    local vg lv new tags file pool share tag IFS
    vg=$1 lv=$2 new=$3 tags=$4 file=$5 pool=$6 share=$7
    csi_lvm_extend "$vg" "$pool" "$8" "$9" || return
    # Copies stay inactive: nobody mounts them. Bricks come back at a boot.
    case $new in
        brick_*) set -- n ;;
        *) set -- y; tags=$tags,csi.share=$share,csi.taken=$(date +%s) ;;
    esac
    set -- --snapshot "$vg/$lv" --name "$new" --setactivationskip "$1"
    IFS=,
    for tag in $tags; do
        set -- "$@" --addtag "$tag"
    done
    csi_lvm lvcreate -qq --autobackup=n "$@" || return
    printf '%s|%s|%s|%s|%s||||\n' "$vg" "$new" "$pool" "$tags" "$((share * 1024))" >>"$file"
    printf '%s\n' "$share"
}

# VG LV TEXT...: may this copy be used, or destroyed? Its tags, without share and moment, must be one of the texts.
csi_lvm_copy_ours() {
    local lv row
    lv=$1/$2
    row=$(csi_lvm_row "$1" "$2")
    shift 2
    [ -n "$row" ] || return 0
    row=${row#*|*|*|}
    row=$(printf '%s\n' "${row%%|*}" | sed 's/,csi\.share=[0-9]*//; s/,csi\.taken=[0-9]*//')
    csi_among "$row" "$@" || csi_evidence "/dev/$lv" "$row"
}

# MOUNT...: write out what waits in these bricks, side by side. Prints the line of csi_noted.
csi_lvm_flush() {
    local mount pid pids status
    pids='' status=0
    for mount do
        sync -f -- "$mount/brick.json" &
        pids="$pids $!"
    done
    for pid in $pids; do
        wait "$pid" || status=1
    done
    csi_noted "$@"
    return "$status"
}
