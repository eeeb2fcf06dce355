#!/bin/bash
# Two hosts on one machine: two network namespaces joined by a cable (a veth pair), torchrun in each.
#
#   tools/two_hosts.sh train --stage rep --dataset digits
#
# Runs `python -m fasttail.torchrun --nnodes 2 --nproc-per-node $PER_NODE` with these arguments on both
# (PER_NODE=1, PYTHON=python3). Needs root (CAP_NET_ADMIN) and iproute2; exits with 77 where that isn't to be had.
# Every line of output says which host it is of. The exit code is that of the host that failed first.
set -euo pipefail

PYTHON=${PYTHON:-python3}
PER_NODE=${PER_NODE:-1}
name="fasttail-$$"

clean_up() {
    for host in a b; do
        ip netns pids "$name-$host" 2>/dev/null | xargs -r kill -KILL 2>/dev/null || true
        ip netns delete "$name-$host" 2>/dev/null || true
    done
}

if ! ip netns add "$name-a" 2>/dev/null; then
    echo "two_hosts: no network namespace can be made here: it needs root and iproute2" >&2
    exit 77
fi
trap clean_up EXIT
trap 'exit 143' TERM INT
ip netns add "$name-b"
ip link add eth0 netns "$name-a" type veth peer name eth0 netns "$name-b"
number=0
for host in a b; do
    number=$((number + 1))
    ip -n "$name-$host" address add "10.77.0.$number/24" dev eth0
    ip -n "$name-$host" link set lo up
    ip -n "$name-$host" link set eth0 up
done

# gloo is told its interface: by itself it asks for the address of the host's name, which is the same
# for both.
run() {
    local host=$1 rank=$2
    shift 2
    ip netns exec "$name-$host" env GLOO_SOCKET_IFNAME=eth0 NCCL_SOCKET_IFNAME=eth0 \
        "$PYTHON" -m fasttail.torchrun --nnodes 2 --nproc-per-node "$PER_NODE" \
        --node-rank "$rank" --master-addr 10.77.0.1 --master-port 29400 "$@" 2>&1 |
        sed -u "s/^/host $host: /"
}

run a 0 "$@" &
run b 1 "$@" &
wait -n # the first to end; if it failed, the other need not wait for it
wait -n
