#!/usr/bin/env bash
# Train under Slurm:
#   [GPUS=8] tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR [arguments]
if [ $# -lt 4 ]; then
    echo 'error: usage: tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR [arguments]' >&2
    exit 2
fi
exec "$(dirname "$0")/slurm_run.sh" "$1" "$2" train.py "$3" \
    --work-dir="$4" "${@:5}"
