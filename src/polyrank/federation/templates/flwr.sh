#!/usr/bin/env bash
# Flower's command line on this server: ./flwr.sh supernode list, ./flwr.sh list…
set -euo pipefail
@environment
cat >flwr/config.toml <<END
[superlink]
default = "federation"

[superlink.federation]
address = "127.0.0.1:@inner"
root-certificates = "$here/authority.pem"
insecure = false
END
exec flwr "$@@"
