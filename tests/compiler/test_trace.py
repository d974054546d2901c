"""Capturing a network."""

from aqd_mmdet.compiler.trace import trace


def test_tracing_leaves_the_detector_as_it_was(build):
    model = build(2).train()
    before = model.bbox_head.retina_cls.forward
    trace(model)
    assert model.training
    assert model.bbox_head.retina_cls.forward == before
