#!/usr/bin/env bash
# nginx before the SuperLink: from outside, only the sites' part of Flower can be reached.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$here/state"
exec nginx -p "$here" -c "$here/gate.conf" -e stderr -g 'daemon off;'
