#!/usr/bin/env bash
# Install what tests/runtime/test_cross.py builds and runs the engine for other
# machines with, on Debian or Ubuntu, as root: about 150 MB to load. Without
# it those tests are skipped.
set -euo pipefail

packages=(
    g++-aarch64-linux-gnu qemu-user # ARM and RISC-V, emulated
    clang lld wasi-libc libc++-dev-wasm32 libclang-rt-dev-wasm32
)
# Whoever has node has it from anywhere.
command -v node >/dev/null || packages+=(nodejs)

installed() {
    dpkg-query -W -f '${Status}\n' "${packages[@]}" 2>/dev/null |
        grep -c 'ok installed'
}

if [[ $(installed) == "${#packages[@]}" ]]; then
    echo 'other machines: their tools are here'
    exit
fi
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "other machines: as root, where apt is: apt-get install ${packages[*]}" >&2
    exit 2
fi
log=$(mktemp)
echo 'other machines: their tools (1 to 2 minutes)'
{
    apt-get update &&
        DEBIAN_FRONTEND=noninteractive apt-get install --yes \
            --no-install-recommends "${packages[@]}"
} >"$log" 2>&1 || {
    tail -n 4 "$log" >&2
    exit 2
}
rm "$log"
