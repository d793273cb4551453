#!/usr/bin/env bash
# The server's SuperLink, until it is stopped; at the loopback, for gate.sh and flwr.sh.
set -euo pipefail
@environment
# So that memory of large arrays goes back to the system as soon as they are let go of.
export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-1048576}"
exec flower-superlink \
  --ssl-certfile server.pem --ssl-keyfile server.key --ssl-ca-certfile authority.pem \
  --enable-supernode-auth --disable-runtime-dependency-installation \
  --host 127.0.0.1 --port @inner --database state/superlink.db
