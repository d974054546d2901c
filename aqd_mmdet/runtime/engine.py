"""The engine in C++ (runtime/csrc), by its C interface.

It is built by ``pip install`` where there is a compiler, and is equal to the
reference executor in every integer.
"""

import ctypes
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..program.detector import CompiledDetector
from ..program.ops import Program
from . import shared_library
from .arrays import channels_last, empty_lines, need_writable

MESSAGE_BYTES = 300
# The environment's choice of instructions; see docs/engine.md.
ISA_VARIABLE = 'AQD_ISA'
NO_MEMORY = 3  # AQD_NO_MEMORY of csrc/include/aqd.h
# Numbers of an aqd_detection: four edges, label, score.
DETECTION_FIELDS = 6


class NoMemory(UserError, MemoryError):
    """Memory is short; there may be enough later, or for a smaller image."""


class _Options(ctypes.Structure):
    """``aqd_options`` of ``csrc/include/aqd.h``."""

    _fields_ = [
        ('size', ctypes.c_size_t),
        ('threads', ctypes.c_int32),
        ('isa', ctypes.c_char_p),
    ]


class _OpProfile(ctypes.Structure):
    """``aqd_op_profile`` of ``csrc/include/aqd.h``."""

    _fields_ = [
        ('name', ctypes.c_char_p),
        ('kind', ctypes.c_char_p),
        ('nanoseconds', ctypes.c_int64),
        ('macs', ctypes.c_int64),
        ('products', ctypes.c_int64),
        ('bytes', ctypes.c_int64),
        ('operand_bits', ctypes.c_int32),
        ('shape', ctypes.c_int32 * 3),
    ]


@dataclass(frozen=True)
class OpProfile:
    """An operator as the engine executes it: those that are fused are one.

    Attributes:
        name: Of the first one, in the file.
        kind: The kernel, as ``csrc/include/aqd.h`` lists them.
        shape: Channels, height and width of the output.
        nanoseconds: Wall time, of all threads.
        macs: Multiply-accumulates of a convolution, else 0.
        products: Multiplications that the kernel's algorithm needs.
        operand_bits: Width of what these multiply: 8 or 16; 0 without any.
        bytes: What is read and written: codes, weights and tables.
    """

    name: str
    kind: str
    shape: tuple[int, int, int]
    nanoseconds: int
    macs: int
    products: int
    operand_bits: int
    bytes: int


@cache
def library() -> Any:
    """Return the engine's library, or None where it is not built."""
    loaded = shared_library.load(Path(__file__).with_name('_engine'))
    if loaded is None:
        return None
    loaded.aqd_free.argtypes = [ctypes.c_void_p]
    loaded.aqd_free.restype = None
    loaded.aqd_isa_name.restype = ctypes.c_char_p
    loaded.aqd_detect.argtypes = [
        *(ctypes.c_void_p, ctypes.c_void_p),
        *(ctypes.c_int32, ctypes.c_int32, ctypes.c_ssize_t),
        *(ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p),
    ]
    loaded.aqd_profile.argtypes = [
        *(ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p),
        *(ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p),
        *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int32),
        ctypes.c_void_p,
    ]
    return loaded


def instruction_sets() -> tuple[str, ...]:
    """Return the sets of instructions that the engine can use here, the best
    first; none where it is not built."""
    loaded = library()
    if loaded is None:
        return ()
    count = loaded.aqd_isa_count()
    return tuple(loaded.aqd_isa_name(i).decode() for i in range(count))


def _chosen_set() -> bytes | None:
    """Return the set that the environment names, or None for the best."""
    name = os.environ.get(ISA_VARIABLE)
    if name is None:
        return None
    names = instruction_sets()
    if name not in names:
        raise UserError(
            f'{ISA_VARIABLE}: expected one of {", ".join(names)}, '
            f'found {name!r}'
        )
    return name.encode()


def _profile_of(op: _OpProfile) -> OpProfile:
    channels, height, width = op.shape
    return OpProfile(
        op.name.decode(),
        op.kind.decode(),
        (channels, height, width),
        op.nanoseconds,
        op.macs,
        op.products,
        op.operand_bits,
        op.bytes,
    )


def _pointers(program: Program, out: dict[str, np.ndarray]) -> Any:
    # A tensor can leave a program several times, as what second stages
    # read: then it is written to one place.
    names = program.output_names()
    return (ctypes.c_void_p * len(names))(
        *(out[name].ctypes.data for name in names)
    )


class Engine:
    """The programs of one detector, in the engine.

    Several Python threads may use it at a time: each call has memory of its
    own for what it writes. ``csrc/include/aqd.h`` says how many calls run at
    a time.

    Args:
        compiled: The detector.
        content: The file that it is in.
        threads: How many run a call; the result does not depend on it.

    Raises:
        UserError: If the engine refuses it or the number of threads, or has
            not the instructions that the environment's ``AQD_ISA`` names.
    """

    def __init__(
        self, compiled: CompiledDetector, content: bytes, threads: int
    ) -> None:
        if threads != ctypes.c_int32(threads).value:
            raise UserError(f'threads={threads}: expected a smaller number')
        self.programs = compiled.programs
        self._library = library()
        self._model = ctypes.c_void_p()
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        options = _Options(ctypes.sizeof(_Options), threads, _chosen_set())
        status = self._library.aqd_load(
            content,
            ctypes.c_size_t(len(content)),
            ctypes.byref(options),
            ctypes.byref(self._model),
            message,
            ctypes.c_size_t(MESSAGE_BYTES),
        )
        if status:
            raise UserError(
                f'the engine refuses the detector: {message.value.decode()}'
            )
        # Why its boxes are none, although its networks run.
        self._refusal = message.value.decode()
        self._most = self._library.aqd_max_detections(self._model)

    def __del__(self) -> None:
        if getattr(self, '_model', None):
            self._library.aqd_free(self._model)

    def detect(
        self, image: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find objects in an image, from bytes to boxes, without Python's
        lock.

        Args:
            image: RGB, uint8 (height, width, 3); its rows may be apart.

        Returns:
            tuple: Boxes int32 (N, 4), labels and scores int32 (N,), as of
            :class:`~aqd_mmdet.runtime.Detections`.

        Raises:
            UserError: If the detector cannot find any, or not in an image
                of that size; NoMemory if memory is short.
        """
        if self._refusal:
            raise UserError(
                f'the engine finds nothing by the detector: {self._refusal}'
            )
        height, width = image.shape[:2]
        stride = image.strides[0]
        if image.strides[1:] != (3, 1) or abs(stride) < 3 * width:
            image, stride = np.ascontiguousarray(image), 3 * width
        count = ctypes.c_int32()
        # Of this call alone; memory that nobody touches is none.
        all_found = np.empty((self._most, DETECTION_FIELDS), np.int32)
        status = self._library.aqd_detect(
            self._model,
            image.ctypes.data,
            height,
            width,
            stride,
            all_found.ctypes.data,
            self._most,
            ctypes.byref(count),
        )
        if status == NO_MEMORY:
            raise NoMemory(f'no memory for an image of {width} x {height}')
        if status:
            raise UserError(f'it does not take an image of {width} x {height}')
        found = all_found[: count.value]
        return found[:, :4].copy(), found[:, 4].copy(), found[:, 5].copy()

    def run(
        self,
        program: Program,
        values: np.ndarray,
        out: dict[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """Run a program on a batch, without Python's lock.

        Args:
            program: One of the detector's.
            values: Pixels, uint8 (N, C, H, W); for a second stage averages
                of regions, int32.
            out: What this method returned for a batch of the same sizes; it
                is overwritten, which saves the time that new memory takes.
                No other thread may use it meanwhile.

        Returns:
            dict: The outputs by name, int32 (N, C, H, W), which lie in
            memory with their channels innermost.

        Raises:
            UserError: If the program does not take that size, or NoMemory.
            ValueError: If values are not of that kind, or out is not.
        """
        index = self._index(program)
        inputs = channels_last(program, values)
        count, height, width, _ = inputs.shape
        shapes = self._output_shapes(program, index, inputs.shape)
        if out is None:
            out = {
                name: empty_lines(shape).transpose(0, 3, 1, 2)
                for name, shape in shapes.items()
            }
        else:
            need_writable(out, shapes, inputs)
        pixels = inputs.ctypes.data_as(ctypes.c_void_p)
        status = self._library.aqd_run(
            self._model,
            index,
            pixels,
            count,
            height,
            width,
            _pointers(program, out),
        )
        if status:
            raise NoMemory(f'no memory for an image of {width} x {height}')
        return out

    def profile(
        self,
        program: Program,
        values: np.ndarray,
        out: dict[str, np.ndarray],
    ) -> list[OpProfile]:
        """Run a program on one input, and measure each operator.

        Args:
            program: One of the detector's.
            values: As of :meth:`run`, of one input: (1, C, H, W).
            out: What :meth:`run` returned for an input of that size; it is
                overwritten.

        Returns:
            list: Each operator, in the order in which they run.

        Raises:
            UserError: If the program does not take that size, or NoMemory.
            ValueError: If values are not of that kind, or out is not.
        """
        inputs = channels_last(program, values)
        number, height, width, _ = inputs.shape
        if number != 1:
            raise ValueError(f'expected one input, got {number}')
        index = self._index(program)
        shapes = self._output_shapes(program, index, inputs.shape)
        need_writable(out, shapes, inputs)
        count = ctypes.c_int32()
        # No more are executed than the file has.
        ops = (_OpProfile * len(program.ops))()
        status = self._library.aqd_profile(
            self._model,
            index,
            inputs.ctypes.data,
            height,
            width,
            _pointers(program, out),
            ops,
            ctypes.sizeof(_OpProfile),
            len(ops),
            ctypes.byref(count),
        )
        if status:
            raise NoMemory(f'no memory for an image of {width} x {height}')
        return [_profile_of(each) for each in ops[: count.value]]

    def _index(self, program: Program) -> int:
        for index, own in enumerate(self.programs):
            if own is program:
                return index
        raise UserError('a program of another detector than the engine has')

    def _output_shapes(
        self, program: Program, index: int, inputs: tuple[int, ...]
    ) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the outputs, (N, H, W, C) as of the input."""
        shapes = {}
        found = (ctypes.c_int32 * 3)()
        count, height, width, _ = inputs
        for i, name in enumerate(program.output_names()):
            status = self._library.aqd_output_shape(
                self._model, index, i, height, width, found
            )
            if status:
                raise UserError(
                    f'the program does not take an image of {width} x {height}'
                )
            depth, *sides = found
            shapes[name] = (count, *sides, depth)
        return shapes
