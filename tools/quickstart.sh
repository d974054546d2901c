#!/usr/bin/env bash
# Set up the environment, then run quickstart.py with the given arguments.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tools/setup_env.sh
exec "$(bash tools/setup_env.sh --python)" tools/quickstart.py "$@"
