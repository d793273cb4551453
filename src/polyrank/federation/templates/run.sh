#!/usr/bin/env bash
# Train recipe.yaml with the sites; a run that was interrupted goes on where it stopped.
# Words like min-nodes=2 or deadline=900 change the run's configuration.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec "$here/flwr.sh" run "$here/app" --stream \
  --run-config "recipe=\"$here/recipe.yaml\" folder=\"$here/run\" $*"
