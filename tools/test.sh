#!/usr/bin/env bash
# Set up, then run the tests; arguments are pytest's.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tools/setup_env.sh
exec "$(bash tools/setup_env.sh --python)" -m pytest "$@"
