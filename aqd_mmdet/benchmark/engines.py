"""The engines under measurement: ours at each bit width, and its peers."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

from ..errors import UserError
from ..runtime import engine as runtime
from .runners import MAX_ISA

WIDTHS = (8, 4, 3, 2)
# Widths to measure on instruction sets other than the best one. The kernels of
# those sets differ only between these two widths.
OTHER_WIDTHS = (8, 2)
# Titles and values of the variable, to hold OpenVINO to the instructions of
# one of our sets. ONNX Runtime has no such switch.
HELD_TO = {
    'avx512': ('AVX-512 VNNI', 'AVX512_CORE_VNNI'),
    'avxvnni': ('AVX-VNNI', 'AVX2_VNNI'),
    'avx2': ('AVX2', 'AVX2'),
}

# Packages that each library needs. PyTorch exports the peers' files; ONNX
# Runtime quantises the int8 file of both peers.
PACKAGES = {
    'aqd': (),
    'onnxruntime': ('torch', 'onnx', 'onnxruntime'),
    'openvino': ('torch', 'onnx', 'onnxruntime', 'openvino'),
    'pytorch': ('torch',),
    'inductor': ('torch',),
}


@dataclass(frozen=True)
class EngineSpec:
    """One engine, which runs in its own worker process.

    Attributes:
        name: Name on the command line.
        title: Name in tables.
        library: Key of :data:`runners.LOAD`.
        model: Kind of the model file: ``aqd8``, ``aqd4``, ``aqd3``, ``aqd2``,
            ``float.onnx``, ``int8.onnx`` or ``float.pt2``.
        environment: Environment variables of the process.
        instructions: Our set of instructions that the engine is held to;
            empty if it may use all that the machine has.
    """

    name: str
    title: str
    library: str
    model: str
    environment: dict[str, str] = field(default_factory=dict)
    instructions: str = ''

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
    sets = runtime.instruction_sets()
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
        flags: Flags of the processor.
    """
    held = {*sets[1:], *(['avx512'] if 'amx_int8' in flags else [])}
    return [*_our_engines(sets[1:]), *_peers(held)]


def _our_engines(other_sets: Sequence[str]) -> list[EngineSpec]:
    engines = [
        EngineSpec(f'aqd-{bits}', f'aqd {bits} bits', 'aqd', f'aqd{bits}')
        for bits in WIDTHS
    ]
    engines += [
        EngineSpec(
            f'aqd-{bits}-{name}',
            f'aqd {bits} bits, {name}',
            'aqd',
            f'aqd{bits}',
            {'AQD_ISA': name},
            name,
        )
        for name in other_sets
        # Portable kernels are the same for all widths.
        for bits in (OTHER_WIDTHS if name != 'portable' else WIDTHS[:1])
    ]
    return engines


def _peers(held: set[str]) -> list[EngineSpec]:
    engines = []
    for name, title in (
        ('onnxruntime', 'ONNX Runtime'),
        ('openvino', 'OpenVINO'),
    ):
        engines += [
            EngineSpec(
                f'{name}-float', f'{title} float32', name, 'float.onnx'
            ),
            EngineSpec(f'{name}-int8', f'{title} int8', name, 'int8.onnx'),
        ]
    engines += [
        EngineSpec(
            f'openvino-int8-{name}',
            f'OpenVINO int8, {title}',
            'openvino',
            'int8.onnx',
            {MAX_ISA: limit},
            name,
        )
        for name, (title, limit) in HELD_TO.items()
        if name in held
    ]
    engines.append(
        EngineSpec('pytorch', 'PyTorch float32', 'pytorch', 'float.pt2')
    )
    if any(map(shutil.which, ('c++', 'g++', 'clang++'))):
        engines.append(
            EngineSpec(
                'inductor',
                'PyTorch float32, compiled',
                'inductor',
                'float.pt2',
            )
        )
    return engines


def need_packages(
    engines: list[EngineSpec], with_detectors: bool, with_boxes: bool = False
) -> None:
    """Raise if a required package is missing.

    Args:
        engines: Engines to measure.
        with_detectors: Whether detectors have to be built.
        with_boxes: Whether the peers find boxes.

    Raises:
        UserError: With the name of the first missing package.
    """
    packages = ['torch', 'mmdet'] if with_detectors else []
    for spec in engines:
        packages += PACKAGES[spec.library]
        if with_boxes and not spec.is_ours:
            packages.append('cv2')
    need(packages, 'choose other --engines and --cases')


# What installs a package that the extra does not.
COMMANDS = {
    'torch': 'bash tools/setup_env.sh',
    'mmdet': 'bash tools/setup_env.sh',
    # Not in the extra, as it holds setuptools back.
    'brevitas': 'pip install brevitas',
}


def need(packages: Iterable[str], otherwise: str) -> None:
    """Raise if a package is missing.

    Args:
        packages: Names for ``import``.
        otherwise: What a user can do instead of installing it.

    Raises:
        UserError: With the name of the first missing package.
    """
    for package in packages:
        if find_spec(package) is None:
            command = COMMANDS.get(
                package, "pip install 'aqd_mmdet[benchmark]'"
            )
            raise UserError(
                f'{package} is not installed: run {command}, or {otherwise}'
            )
