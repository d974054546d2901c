#!/usr/bin/env bash
# Set up, then run the tests; arguments are pytest's.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tools/setup_env.sh
# A process for each core, each with one thread: most tests are too small for
# more. The tests of a file share what they have made.
export OMP_NUM_THREADS=1
exec "$(bash tools/setup_env.sh --python)" -m pytest \
    --numprocesses auto --dist loadfile "$@"
