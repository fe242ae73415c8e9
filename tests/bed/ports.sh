#!/usr/bin/env bash
# ports.sh COUNT: prints the first of COUNT ports that no other caller has been given lately.
#
# The range 20000..31999 is below the kernel's ephemeral ports, so that no outgoing connection takes one before its
# server binds it. A counter under a lock keeps test processes that run side by side apart. The caller still checks
# that a port is free: the counter starts again at the bottom, and other programs may listen there.
set -euo pipefail
state=${XDG_CACHE_HOME:-$HOME/.cache}/tidegate-testbed
count=$1
mkdir -p "$state"
exec 9>"$state/ports.lock"
flock 9
next=$(cat "$state/ports" 2>/dev/null || echo $((20000 + RANDOM % 12000)))
if ((next + count > 32000)); then next=20000; fi
echo $((next + count)) >"$state/ports"
echo "$next"
