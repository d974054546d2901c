from .calibration import CalibrationHook
from .checkpoint import check_checkpoint, read_checkpoint
from .compiled_arithmetic import CompileQuantizersHook
from .epoch_seed import EpochSeedHook
from .integer_aware import IntegerAwareHook
from .quantizer_log import QuantizerLogHook

__all__ = [
    'CalibrationHook',
    'CompileQuantizersHook',
    'EpochSeedHook',
    'IntegerAwareHook',
    'QuantizerLogHook',
    'check_checkpoint',
    'read_checkpoint',
]
