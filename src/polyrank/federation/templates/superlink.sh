#!/usr/bin/env bash
# The server's SuperLink, until it is stopped; at the loopback, for gate.sh and flwr.sh.
set -euo pipefail
@environment
exec flower-superlink \
  --ssl-certfile server.pem --ssl-keyfile server.key --ssl-ca-certfile authority.pem \
  --enable-supernode-auth --disable-runtime-dependency-installation \
  --host 127.0.0.1 --port @inner --database state/superlink.db
