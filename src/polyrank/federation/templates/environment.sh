here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
umask 077
PATH="${POLYRANK_BIN:+$POLYRANK_BIN:}$PATH"
export PATH FLWR_HOME="$here/flwr"
# Nothing is reported to anybody, looked up, or installed while running.
export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1
if ! command -v flwr >/dev/null; then
  echo "$0: no flwr on PATH; set POLYRANK_BIN to the bin folder where polyrank[flower] is" >&2
  exit 2
fi
mkdir -p state flwr
