"""Which detectors give what their heads find, and no more."""

from torch import nn

from ..errors import UserError
from . import heads
from .owners import owner_of
from .trace import dense_head

# Methods between the head and the user, and whose are known.
METHODS = ('forward', 'predict', 'add_pred_to_datasample')
DETECTORS = ('SingleStageDetector', 'TwoStageDetector')


def need_known_detector(detector: nn.Module) -> None:
    """Raise if a detector does more than its head finds.

    Args:
        detector: The detector.

    Raises:
        UserError: With what it does.
    """
    owner = owner_of(detector, METHODS)
    if owner not in DETECTORS:
        raise UserError(
            f'{type(detector).__name__} finds its boxes as {owner} does '
            f'({", ".join(METHODS)}): the program has what '
            f'{" and ".join(DETECTORS)} do'
        )
    if not hasattr(detector, 'roi_head') and (
        owner_of(dense_head(detector), heads.METHODS) == 'RPNHead'
    ):
        raise UserError(
            f'{type(detector).__name__} ends with its proposals, each level '
            'suppressed by itself: a program has them in front of regions '
            'alone (roi_head)'
        )
