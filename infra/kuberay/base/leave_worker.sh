# A worker's hook before its end (preStop): tell Ray that this machine leaves, and wait for what still runs on it.
#
# condgen train sees the notice, saves a checkpoint and goes on without this machine. Ray ends here as soon as nothing
# runs any more, and the container with it; the wait is for what does not end by itself. It waits as well where the
# notice finds no head: a whole cluster that is deleted loses the head's name at once, and the head's hook has the
# command save its checkpoint meanwhile.
set -eu
: "${CONDGEN_DRAIN_S:?is not set}"
# Without --node-id it is this node.
timeout 20 ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message "its pod is being deleted" \
    --deadline-remaining-seconds "$CONDGEN_DRAIN_S" || echo "the head was not told"
sleep "$CONDGEN_DRAIN_S"
