#!/usr/bin/env bash
# Install the cross compilers and emulators of tests/runtime/test_cross.py and of
# packaging/runtime/build_wheels.py on Debian or Ubuntu, as root, and, in the environment
# of tools/setup_env.sh, a clang with headers of macOS. The download is about
# 420 MB. Without these packages, the tests for other machines are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
    g++-aarch64-linux-gnu qemu-user # ARM and RISC-V, emulated
    g++-mingw-w64-x86-64-posix wine64 # Windows
    llvm # reads libraries of all machines
    clang lld wasi-libc libc++-dev-wasm32 libclang-rt-dev-wasm32
)
# node may come from elsewhere than apt.
command -v node >/dev/null || packages+=(nodejs)

clang=ziglang==0.17.1
python=$(bash tools/setup_env.sh --python)
if [[ -x $python ]]; then
    "$python" -m pip install --quiet --disable-pip-version-check "$clang"
else
    echo "cross compilers: without $clang, as there is no $python"
fi

installed() {
    dpkg-query -W -f '${Status}\n' "${packages[@]}" 2>/dev/null |
        grep -c 'ok installed'
}

if [[ $(installed) == "${#packages[@]}" ]]; then
    echo 'cross compilers and emulators: already installed'
    exit
fi
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "error: cross compilers need root and apt; run as root: apt-get install ${packages[*]}" >&2
    exit 2
fi
log=$(mktemp)
echo 'cross compilers and emulators: installing (1 to 2 minutes)'
{
    apt-get update &&
        DEBIAN_FRONTEND=noninteractive apt-get install --yes \
            --no-install-recommends "${packages[@]}"
} >"$log" 2>&1 || {
    tail -n 4 "$log" >&2
    exit 2
}
rm "$log"
