# What the protocol of hosts/shell.py needs in each shell. Verbs for scripts are in verbs.sh, whose rules hold here too.

# INDEX STATUS [INDEX STATUS]: the command with this index has ended. Both streams carry the marker, so that each can be cut by itself.
csi_mark() {
    printf "$csi_nonce:%s:%s\\n" "$@"
    printf "$csi_nonce:%s:%s\\n" "$@" >&2
}

# [TERM_FILE SESSIONS TERM HOLDER]: prints who this shell is: process id, start time in ticks, id of this boot. No other process
# ever has the same three. With arguments it first enters the shell among the sessions of its term: statuses as csi_enter.
csi_hello() {
    local line boot terms sessions term holder
    terms=$1 sessions=$2 term=$3 holder=$4
    read -r line <"/proc/$$/stat" || return
    read -r boot </proc/sys/kernel/random/boot_id || return
    line=${line##*) }
    # The fields after the name: state is the 3rd, the start time the 22nd.
    set -- $line
    set -- "$$" "${20}" "$boot"
    [ -z "$term" ] || csi_enter "$terms" "$sessions" "$term" "$holder" "$@" || return
    printf '%s %s %s\n' "$@"
}

# GROUP: is any process of this group alive? Zombies do not count: whoever should reap them may take his time.
csi_group_lives() {
    local file line
    for file in /proc/[0-9]*/stat; do
        { read -r line <"$file"; } 2>/dev/null || continue
        line=${line##*) }
        set -- "$1" $line
        [ "$4" = "$1" ] && [ "$2" != Z ] && [ "$2" != X ] && return 0
    done
    return 1
}

# PID START BOOT: is the process that once said these three words still there?
csi_is_process() {
    local line boot
    read -r boot </proc/sys/kernel/random/boot_id || return
    [ "$boot" = "$3" ] || return 1
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    line=${line##*) }
    set -- "$2" $line
    [ "${21}" = "$1" ] && [ "$2" != Z ] && [ "$2" != X ]
}

# PID START BOOT: end the shell that once said these three words, with all processes of its group. One that is gone is fine.
# Status 1: something of it is still there, hanging in the kernel.
csi_end() {
    local line boot group tries
    read -r boot </proc/sys/kernel/random/boot_id || return
    [ "$boot" = "$3" ] || return 0
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 0
    line=${line##*) }
    set -- "$1" "$2" $line
    [ "${22}" = "$2" ] || return 0
    group=$5
    kill -s KILL -- "-$group"
    tries=0
    while csi_group_lives "$group"; do
        tries=$((tries + 1))
        [ "$tries" -le 40 ] || return 1
        sleep 0.05
    done
}

# --- one term at a time (hosts/mandate.py) ---------------------------------------------------------------------------
# TERM_FILE holds the highest term that was ever met, and who has it. The directory SESSIONS has a file for each session, named by its
# process id, with what csi_hello says and its term. The order is what counts: a session first says that it is there, then
# looks at the term. So one that comes later with a higher term either finds it, or has raised the term before it looked.

# TERM_FILE TERM HOLDER: leaves the term that this host obeys in csi_known, a local of the caller; 0 if there is none.
# Status 76, and that term on stderr: it is another's, and not lower.
csi_obeys() {
    local holder
    csi_known='' holder=''
    { read -r csi_known holder <"$1"; } 2>/dev/null
    case $csi_known in
        '' | *[!0-9]*) csi_known=0 ;;
    esac
    [ "$2" -gt "$csi_known" ] && return 0
    [ "$2" -eq "$csi_known" ] && [ "${holder:-$3}" = "$3" ] && return 0
    printf '%s\n' "$csi_known" >&2
    return 76
}

# SESSIONS TERM: end the sessions of lower terms, with all that they run, and forget those that are gone.
# Status 77: something of one is still there, hanging in the kernel.
csi_end_older() {
    local file pid start boot term status
    status=0
    for file in "$1"/[0-9]*; do
        pid=${file##*/} start='' boot='' term=''
        { read -r start boot term <"$file"; } 2>/dev/null
        case $term in
            '' | *[!0-9]*)
                # Half written: its shell comes to the term after this one, and is refused if it is older.
                [ -e "/proc/$pid" ] && continue
                ;;
            *)
                if [ "$term" -ge "$2" ]; then
                    csi_is_process "$pid" "$start" "$boot" && continue
                elif ! csi_end "$pid" "$start" "$boot"; then
                    printf 'process %s of term %s\n' "$pid" "$term" >&2
                    status=77
                    continue
                fi
                ;;
        esac
        set -- "$@" "$file"
    done
    shift 2
    [ "$#" -eq 0 ] || rm -f -- "$@"
    return "$status"
}

# SESSIONS TERM: lock descriptor 9. Not every flock can wait for a while only.
csi_lock() {
    local tries
    tries=0
    until flock -n 9; do
        tries=$((tries + 1))
        if [ "$tries" -eq 25 ]; then
            csi_end_older "$1" "$2" || return
        elif [ "$tries" -gt 300 ]; then
            echo "$1/lock is held by another session of this term" >&2
            return 1
        fi
        sleep 0.02
    done
}

# TERM_FILE SESSIONS TERM HOLDER PID START BOOT: let this shell in. It is the business of one shell at a time; one that is
# paused with the lock in hand is of a lower term, and ended, or of our own, and waited for.
# Status 76: this host obeys a higher term, or another holder of this one; the term is on stderr. 77: as csi_end_older.
csi_enter() {
    local status csi_known
    csi_obeys "$1" "$3" "$4" || return
    [ "$3" -gt 0 ] || return 0
    [ -d "$2" ] || mkdir -p -m 0700 -- "$2" || return
    printf '%s\n' "$6 $7 $3" >"$2/$5" || return
    {
        csi_lock "$2" "$3" || return
        csi_take_over "$@"
        status=$?
        [ "$status" -ne 76 ] || rm -f -- "$2/$5"
        return "$status"
    } 9>"$2/lock"
}

# As csi_enter: raise the term of this host, then end what is of lower ones. With the lock in hand.
csi_take_over() {
    local csi_known
    csi_obeys "$1" "$3" "$4" || return
    # Once more: who held the lock may have taken the file for that of a process before this one, with the same number.
    printf '%s\n' "$6 $7 $3" >"$2/$5" || return
    if [ "$3" -gt "$csi_known" ]; then
        [ -d "${1%/*}" ] || mkdir -p -- "${1%/*}" || return
        printf '%s\n' "$3 $4" >"$1.part" && sync -- "$1.part" && mv -- "$1.part" "$1" || return
    fi
    # Each time: the session that raised the term may have been ended before it came to this.
    csi_end_older "$2" "$3"
}
