#!/usr/bin/env bash
# Let the sites take part whose public keys lie in sites/, or only those that are named.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
keys=("$@@")
if [ $# = 0 ]; then keys=("$here"/sites/*.pub); fi
for key in "${keys[@@]}"; do
  "$here/flwr.sh" supernode register "$(realpath "$key")" --name "$(basename "$key" .pub)"
done
