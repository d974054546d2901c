"""What is measured: the engine at its widths, and its peers."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

from ..errors import UserError
from ..runtime import engine

WIDTHS = (8, 4, 3, 2)
# What is measured with instructions other than the best: their own kernels,
# as far as there are any, are for these.
OTHER_WIDTHS = (8, 2)
# oneDNN, and with it OpenVINO, reads its name for AVX-512 with VNNI here.
WITHOUT_TILES = {'ONEDNN_MAX_CPU_ISA': 'AVX512_CORE_VNNI'}

# Files for the peers are exported by PyTorch; the quantised one is made by
# ONNX Runtime for OpenVINO, too.
NEEDED = {
    'aqd': (),
    'onnxruntime': ('torch', 'onnx', 'onnxruntime'),
    'openvino': ('torch', 'onnx', 'onnxruntime', 'openvino'),
    'pytorch': ('torch',),
    'inductor': ('torch',),
}


@dataclass(frozen=True)
class EngineSpec:
    """One engine, as a worker process of its own runs it.

    Attributes:
        name: To select it by.
        title: For tables.
        library: Which of :mod:`runners` loads the file.
        model: Which file it reads: ``aqd8`` and so on, ``float.onnx``,
            ``int8.onnx`` or ``float.pt2``.
        environment: Variables of its process.
    """

    name: str
    title: str
    library: str
    model: str
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        return self.library == 'aqd'

    @property
    def is_float_peer(self) -> bool:
        return self.model.startswith('float')

    @property
    def is_int8_peer(self) -> bool:
        return self.model == 'int8.onnx'


def instruction_sets() -> tuple[str, ...]:
    """Return the engine's sets of instructions here, the best first."""
    sets = engine.instruction_sets()
    if not sets:
        raise UserError(
            'the engine is not built: pip install the package where there is '
            'a C++ compiler'
        )
    return sets


def all_engines(sets: Sequence[str], flags: set[str]) -> list[EngineSpec]:
    """Return all engines that this machine can run.

    Args:
        sets: Instruction sets of our engine, the best first.
        flags: The processor's.
    """
    found = [
        EngineSpec(f'aqd-{bits}', f'aqd {bits} bits', 'aqd', f'aqd{bits}')
        for bits in WIDTHS
    ]
    found += [
        EngineSpec(
            f'aqd-{bits}-{name}',
            f'aqd {bits} bits, {name}',
            'aqd',
            f'aqd{bits}',
            {'AQD_ISA': name},
        )
        for name in sets[1:]
        # Portable kernels are the same for all widths.
        for bits in (OTHER_WIDTHS if name != 'portable' else WIDTHS[:1])
    ]
    for name, title in (
        ('onnxruntime', 'ONNX Runtime'),
        ('openvino', 'OpenVINO'),
    ):
        found += [
            EngineSpec(
                f'{name}-float', f'{title} float32', name, 'float.onnx'
            ),
            EngineSpec(f'{name}-int8', f'{title} int8', name, 'int8.onnx'),
        ]
    if 'amx_int8' in flags:
        # Its float32 needs no second time: it is kept from bfloat16, and
        # tiles multiply nothing longer.
        found.append(
            EngineSpec(
                'openvino-int8-avx512',
                'OpenVINO int8, AVX-512 VNNI',
                'openvino',
                'int8.onnx',
                WITHOUT_TILES,
            )
        )
    found.append(
        EngineSpec('pytorch', 'PyTorch float32', 'pytorch', 'float.pt2')
    )
    if any(map(shutil.which, ('c++', 'g++', 'clang++'))):
        found.append(
            EngineSpec(
                'inductor',
                'PyTorch float32, compiled',
                'inductor',
                'float.pt2',
            )
        )
    return found


def need_packages(engines: list[EngineSpec], with_detectors: bool) -> None:
    """Raise if a package is not there that is needed.

    Args:
        engines: Those that were asked for.
        with_detectors: Whether detectors are to be built.
    """
    needed = ['torch', 'mmdet'] if with_detectors else []
    for engine in engines:
        needed += NEEDED[engine.library]
    for package in needed:
        if find_spec(package) is None:
            raise UserError(
                f'{package} is not installed: '
                + (
                    'bash tools/setup_env.sh installs it'
                    if package in ('torch', 'mmdet')
                    else "pip install 'aqd_mmdet[benchmark]'"
                )
                + ', or leave out by --engines and --cases what needs it'
            )
