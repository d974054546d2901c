#!/usr/bin/env bash
# Set up the environment and run the tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tools/setup_env.sh
# One process per core with one thread each: most tests are too small for more
# threads. The tests of a file share fixtures, so they stay in one process.
# Files are given out in the order of tests/conftest.py, the longest first.
export OMP_NUM_THREADS=1
exec "$(bash tools/setup_env.sh --python)" -m pytest \
    --numprocesses auto --dist loadfile --no-loadscope-reorder "$@"
