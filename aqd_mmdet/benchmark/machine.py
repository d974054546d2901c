"""Describes the machine that runs the benchmark."""

import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Processor flags that decide which kernels an engine can use.
FLAGS = (
    'avx2', 'avx_vnni', 'avx512f', 'avx512_vnni', 'avx512vbmi', 'avx512_bf16',
    'amx_int8', 'amx_bf16', 'asimd', 'asimddp', 'i8mm', 'sve',
)  # fmt: skip
PACKAGES = ('torch', 'onnxruntime', 'openvino', 'nncf', 'numpy')
POWERCAP = Path('/sys/class/powercap')


@dataclass(frozen=True)
class Machine:
    """Properties of a machine that matter to a reader of its figures.

    Attributes:
        processor: Model name of the processor.
        flags: The processor's flags among ``FLAGS``.
        cores: Number of cores that this process may use.
        load: Load average over the minute before the benchmark.
        packages: Version of each measured package.
    """

    processor: str
    flags: tuple[str, ...]
    cores: int
    load: float
    packages: dict[str, str]


def describe() -> Machine:
    """Return the description of this machine."""
    fields: dict[str, str] = {}
    for line in Path('/proc/cpuinfo').read_text().splitlines():
        name, _, value = line.partition(':')
        fields.setdefault(name.strip(), value.strip())
    flags = set(fields.get('flags', fields.get('Features', '')).split())
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    name = fields.get('model name', fields.get('CPU part', 'unknown'))
    numbers = [fields.get(key) for key in ('cpu family', 'model', 'stepping')]
    if all(numbers):
        name += f' (family {numbers[0]}, model {numbers[1]})'
    return Machine(
        name,
        tuple(flag for flag in FLAGS if flag in flags),
        len(os.sched_getaffinity(0)),
        round(os.getloadavg()[0], 2),
        packages,
    )


def busy_seconds() -> float:
    """Return the CPU seconds of all processes since the machine started.

    In a virtual machine they include the time that the host stole.
    """
    line = Path('/proc/stat').read_text().partition('\n')[0]
    user, nice, system, _, _, *others = map(int, line.split()[1:9])
    return (user + nice + system + sum(others)) / os.sysconf('SC_CLK_TCK')


class Energy:
    """The processor's energy counters, where the kernel exposes them.

    Attributes:
        missing: Why there are no counters; empty if there are.
    """

    def __init__(self) -> None:
        self._counters = []
        self.missing = f'{POWERCAP} has no counter of a processor package'
        for folder in sorted(POWERCAP.glob('*:*')):
            name = folder / 'name'
            counter = folder / 'energy_uj'
            if not name.is_file() or 'package' not in name.read_text():
                continue
            if not os.access(counter, os.R_OK):
                self.missing = f'no permission to read {counter}'
                continue
            limit = int((folder / 'max_energy_range_uj').read_text())
            self._counters.append((counter, limit))
        if self._counters:
            self.missing = ''

    def read(self) -> tuple[int, ...]:
        """Return the counters' values in microjoules."""
        return tuple(int(path.read_text()) for path, _ in self._counters)

    def joules(self, before: tuple[int, ...]) -> float | None:
        """Return the energy since an earlier reading; None without counters.

        Args:
            before: The earlier result of :meth:`read`.
        """
        if self.missing:
            return None
        return sum(
            (now - then) % limit / 1e6
            for now, then, (_, limit) in zip(
                self.read(), before, self._counters, strict=True
            )
        )
