#!/usr/bin/env bash
# Set up, then train, quantise, evaluate and draw on the embedded dataset.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tools/setup_env.sh
exec "$(bash tools/setup_env.sh --python)" tools/quickstart.py "$@"
