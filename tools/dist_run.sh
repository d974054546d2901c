#!/usr/bin/env bash
# Start a tool with one process per device:
#   tools/dist_run.sh TOOL CONFIG DEVICES [arguments]
set -eu
tools=$(cd "$(dirname "$0")" && pwd)
if [[ ! ${3:-} =~ ^[1-9][0-9]*$ ]]; then
    echo "error: DEVICES=${3:-}: give the number of devices, 1 or more" >&2
    exit 2
fi
export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"
exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$3" \
    "$tools/$1" "$2" "${@:4}" --launcher pytorch
