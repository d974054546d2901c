from .calibration import CalibrationHook
from .checkpoint import check_checkpoint, read_checkpoint
from .compiled_arithmetic import CompileQuantizersHook
from .epoch_seed import EpochSeedHook
from .integer_aware import IntegerAwareHook
from .quantizer_log import QuantizerLogHook
from .teacher import TeacherHook

__all__ = [
    'CalibrationHook',
    'CompileQuantizersHook',
    'EpochSeedHook',
    'IntegerAwareHook',
    'QuantizerLogHook',
    'TeacherHook',
    'check_checkpoint',
    'read_checkpoint',
]
