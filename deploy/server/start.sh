#!/bin/sh
# Process 1 of a Gluster pod: mounts the bricks that are entered in $FSTAB, runs glusterd, and ends the bricks with it.
set -u
fstab=${FSTAB:-/var/lib/glusterd/gluster-csi.fstab}

# The node's directory hides what the package put there: groups of options, hooks. What the node has stays as it is.
mkdir -p /var/log/glusterfs /run/gluster
cp -an /usr/share/glusterd/. /var/lib/glusterd/
vgchange --activate y --ignoremonitoring >/dev/null 2>&1

if [ -s "$fstab" ]; then
    # What is mounted already stays: mounts outlive this container on the node. A brick that can't be mounted stays away
    # from its volume (its empty mount point is immutable), and the others do not wait for it.
    mount --all --fstab "$fstab" || echo "not every brick of $fstab could be mounted" >&2
fi

# glusterd on its own tells nobody when it stops; this does, and gives the bricks time to write what they have.
stop() {
    kill "$glusterd" 2>/dev/null
    pkill -TERM -x 'glusterfsd?' 2>/dev/null
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        pgrep -x 'glusterfsd?' >/dev/null || break
        sleep 1
    done
    exit 0
}
trap stop TERM INT

glusterd --no-daemon --log-file=/dev/stderr --log-level=INFO &
glusterd=$!
wait "$glusterd"
status=$?
echo "glusterd ended with status $status" >&2
exit "$status"
