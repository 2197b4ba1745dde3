# A worker's hook before its end (preStop): tell Ray that this machine leaves, and wait for what still runs on it.
#
# condgen train sees the notice, saves a checkpoint and goes on without this machine. Ray's process on it, the raylet,
# ends as soon as nothing runs here any more, and so does this hook; `ray start --block` does not notice (2.60), and
# gets SIGTERM then. The hook waits as well where the notice finds no head: a whole cluster that is deleted loses the
# head's name at once, and the head's hook has the command save its checkpoint meanwhile.
set -eu
: "${CONDGEN_DRAIN_S:?is not set}"
# Without --node-id it is this node.
timeout 20 ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message "its pod is being deleted" \
    --deadline-remaining-seconds "$CONDGEN_DRAIN_S" || echo "the head was not told"
SECONDS=0
while [ "$SECONDS" -lt "$CONDGEN_DRAIN_S" ] && grep -qsx raylet /proc/[0-9]*/comm; do
    sleep 1
done
