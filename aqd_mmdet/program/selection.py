"""Which boxes a detector of one stage keeps, apart from where they are."""

from dataclasses import dataclass

from .detector import CompiledDetector, Product


@dataclass(frozen=True)
class Selection:
    """What a config's ``test_cfg`` became in a detector of one stage.

    Attributes:
        scores: Kind of the scores, such as ``Sigmoid``.
        scales: Real value of one unit of each kind of map.
        threshold: Smallest rank of a candidate that counts.
        least: Smallest value of the third output that counts; None if there
            is no such limit.
        candidates: Most candidates of a level.
        total: Most candidates of all levels.
        overlap: Largest overlap of two boxes of a class, in 65536ths.
        keep: Most boxes of an image.
    """

    scores: str
    scales: tuple[float, ...]
    threshold: int
    least: int | None
    candidates: int
    total: int
    overlap: int
    keep: int

    @classmethod
    def of(cls, detector: CompiledDetector) -> 'Selection':
        """Return that of a detector."""
        post = detector.postprocess
        scores = post.scores
        return cls(
            scores=type(scores).__name__,
            scales=tuple(out.scale for out in detector.program.outputs),
            threshold=post.threshold,
            least=scores.least if isinstance(scores, Product) else None,
            candidates=post.candidates,
            total=post.total,
            overlap=post.overlap,
            keep=post.keep,
        )
