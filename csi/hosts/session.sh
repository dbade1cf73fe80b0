# What the protocol of hosts/shell.py needs in each shell. Verbs for scripts are in verbs.sh, whose rules hold here too.

# INDEX STATUS: the command with this index has ended. Both streams carry the marker, so that each can be cut by itself.
csi_mark() {
    printf '%s:%s:%s\n' "$csi_nonce" "$1" "$2"
    printf '%s:%s:%s\n' "$csi_nonce" "$1" "$2" >&2
}

# Prints who this shell is: process id, start time in ticks, id of this boot. No other process ever has the same three.
csi_hello() {
    local line boot
    read -r line <"/proc/$$/stat" || return
    read -r boot </proc/sys/kernel/random/boot_id || return
    line=${line##*) }
    # The fields after the name: state is the 3rd, the start time the 22nd.
    set -- $line
    printf '%s %s %s\n' "$$" "${20}" "$boot"
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
