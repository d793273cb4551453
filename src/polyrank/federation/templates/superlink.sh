#!/usr/bin/env bash
# The server's SuperLink, until it is stopped: one port for sites and for ./flwr.sh.
set -euo pipefail
@environment
exec flower-superlink \
  --ssl-certfile server.pem --ssl-keyfile server.key --ssl-ca-certfile authority.pem \
  --enable-supernode-auth --disable-runtime-dependency-installation \
  --host @bind --port @port --database state/superlink.db
