#!/usr/bin/env bash
# Create a virtual environment with everything that the project needs. If the
# environment is up to date, this takes a second. AQD_STACK=upstream installs
# OpenMMLab's own packages (in .venv-upstream) instead of the maintained OneDL
# forks (in .venv). With --python, print only the path of the environment's
# python.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "error: $*" >&2
    exit 2
}

case "${AQD_STACK:-onedl}" in
onedl)
    venv=.venv
    mmcv=onedl-mmcv==2.3.6
    stack=(onedl-mmengine==0.10.12 onedl-mmdetection==3.5.1 onedl-mim==0.5.1)
    ;;
upstream)
    venv=.venv-upstream
    mmcv=mmcv==2.1.0
    stack=(mmengine==0.10.7 mmdet==3.3.0)
    ;;
*) fail "AQD_STACK=$AQD_STACK: give onedl or upstream" ;;
esac
torch=torch==2.13.0
# The last setuptools with pkg_resources, which mmengine imports; PyTorch
# needs 77 or later.
build=('setuptools>=80,<81' wheel ninja)
mmcv_file=${mmcv%%==*}
mmcv_file=${mmcv_file//-/_}-${mmcv##*==}
log=$venv/setup.log
python=$PWD/$venv/bin/python

if [[ ${1:-} == --python ]]; then
    echo "$python"
    exit
fi

# The environment is up to date if it has the checksum of these files.
checksum=$(cat tools/setup_env.sh setup.cfg setup.py \
    $(find aqd_mmdet/runtime/csrc aqd_mmdet/quantizers/*.cpp -type f | sort) | cksum)
if [[ $(cat "$venv/ready" 2>/dev/null) == "$checksum" ]]; then
    echo "environment: $venv is ready"
    exit
fi

is_supported_python() {
    "$1" -c 'import sys, venv, ensurepip
sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.11 python3.12 python3.10; do
        if is_supported_python "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail 'no Python 3.10 to 3.12 with venv: install one or set PYTHON=/path/to/python'
}

check_disk() { # FOLDER GIB
    local free
    free=$(df -Pk "$1" | awk 'NR == 2 { print int($4 / 1048576) }')
    ((free >= $2)) || fail "$1 has $free GiB free, the set-up needs $2 GiB: free some space"
}

step() { # WHAT COMMAND...
    echo "environment: $1"
    shift
    "$@" >>"$log" 2>&1 || {
        tail -n 4 "$log" >&2
        fail "this step failed (see $log): check the network and the disk, then run the same command again"
    }
}

has_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; }

device=cpu
if has_gpu; then device=cuda; fi
# A wheel of mmcv works with one version of PyTorch and one device only.
wheels=${XDG_CACHE_HOME:-$HOME/.cache}/aqd_mmdet/wheels/${torch//==/-}-$device

install_torch() {
    # On Linux, PyPI's build contains CUDA. The CPU build has a tenth of its
    # size. If no configured index has it, uv knows PyTorch's own index.
    if [[ $device == cpu && $(uname) == Linux ]]; then
        "${pip[@]}" "$torch+cpu" && return
        "${pip[@]}" uv &&
            "$python" -m uv pip install --python "$python" \
                --torch-backend cpu "$torch" && return
    fi
    "${pip[@]}" "$torch"
}

find_wheel() {
    local tag
    tag=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
    find "$wheels" -name "${mmcv_file}-$tag-*.whl" 2>/dev/null | head -n 1
}

build_mmcv() {
    local jobs
    jobs=$(getconf _NPROCESSORS_ONLN)
    # An isolated build does not find PyTorch and silently omits the operators.
    # -O1 halves the build time of -O2; training does not depend on the speed
    # of these operators.
    MMCV_WITH_OPS=1 MAX_JOBS=$jobs CFLAGS='-g0 -O1' CXXFLAGS='-g0 -O1' \
        "$python" -m pip wheel --no-build-isolation --no-deps \
        --wheel-dir "$wheels.part" "$mmcv"
    mkdir -p "$wheels"
    mv "$wheels.part"/*.whl "$wheels/"
}

base=$(find_python)
check_disk . 4
if [[ ! -x $venv/bin/python ]] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    rm -rf "$venv"
    echo "environment: creating $venv with $("$base" --version)"
    "$base" -m venv "$venv" || fail "$base cannot make a virtual environment: install its venv package"
fi
rm -f "$venv/ready"
: >"$log"
pip=("$python" -m pip install --quiet --disable-pip-version-check)

step 'the installer (seconds)' "${pip[@]}" --upgrade pip "${build[@]}"
step 'PyTorch (1 to 5 minutes)' install_torch
if [[ -z $(find_wheel) ]]; then
    if "$python" -m pip download --quiet --no-deps --only-binary :all: \
        --dest "$wheels" "$mmcv" >>"$log" 2>&1; then
        echo 'environment: mmcv has a wheel for this platform'
    else
        command -v c++ >/dev/null || command -v g++ >/dev/null ||
            fail 'no C++ compiler: install one (Debian: apt install g++)'
        step "mmcv's operators, compiled once (7 to 15 minutes on 2 cores)" \
            build_mmcv
    fi
fi
step 'MMDetection and its requirements (1 to 3 minutes)' \
    "${pip[@]}" "$(find_wheel)" "${stack[@]}" "${build[0]}"
step 'this package' "${pip[@]}" --no-build-isolation --editable '.[train,test]'
step 'import check' "$python" -c 'import mmdet, mmcv._ext, aqd_mmdet.models'
echo "$checksum" >"$venv/ready"
echo "environment: $venv is ready"
