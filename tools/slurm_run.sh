#!/usr/bin/env bash
# Start a tool under Slurm with one task per GPU:
#   tools/slurm_run.sh PARTITION JOB TOOL [arguments]
set -eu
if [ $# -lt 3 ]; then
    echo 'error: usage: tools/slurm_run.sh PARTITION JOB TOOL [arguments]' >&2
    exit 2
fi
if ! command -v srun >/dev/null; then
    echo 'error: srun: not found; without Slurm take tools/dist_train.sh or' \
        'tools/dist_test.sh' >&2
    exit 2
fi
tools=$(cd "$(dirname "$0")" && pwd)
per_node=${GPUS_PER_NODE:-8}
export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"
# SRUN_ARGS has no quotes, because it holds several words.
# shellcheck disable=SC2086
exec srun -p "$1" \
    --job-name="$2" \
    --gres="gpu:$per_node" \
    --ntasks="${GPUS:-8}" \
    --ntasks-per-node="$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    python -u "$tools/$3" "${@:4}" --launcher slurm
