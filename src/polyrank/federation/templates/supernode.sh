#!/usr/bin/env bash
# This site's SuperNode, again whenever it ends, until it is stopped. The SuperLink refuses a node
# that comes back before the lease of its last life has run out (about a minute): wait, and retry.
set -euo pipefail
@environment
# Seconds between two looks for a message to start a process for; Flower's own is 1.
export FLWR_SUPEREXEC_TASK_POLL_INTERVAL="${FLWR_SUPEREXEC_TASK_POLL_INTERVAL:-0.25}"
# There a process that has Flower's imports done puts its own flwr-clientapp, after the first message.
rm -rf state/bin
PATH="$here/state/bin:$PATH"
{ echo "home = \"$here/state\""; cat site.toml; } >state/node.toml
node= stopped=
stop() {
  stopped=yes
  if [ -n "$node" ]; then kill "$node" 2>/dev/null || true; fi
}
trap stop TERM INT HUP
pause=1
while [ -z "$stopped" ]; do
  began=$SECONDS code=0
  flower-supernode \
    --superlink "${SUPERLINK:-@superlink}" --root-certificates authority.pem \
    --auth-supernode-private-key node.key \
    --node-config state/node.toml --host 127.0.0.1 --port "${RUNTIME_PORT:-@runtime}" &
  node=$!
  wait "$node" || code=$?
  if [ -n "$stopped" ]; then break; fi
  if [ $((SECONDS - began)) -gt 120 ]; then pause=1; fi
  echo "SuperNode ended with code $code; again in $pause s" >&2
  sleep "$pause" &
  node=$!
  wait "$node" || true
  pause=$((pause < 30 ? 2 * pause : 60))
done
wait
