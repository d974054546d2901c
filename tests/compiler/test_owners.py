"""Whose way of doing a thing a class has."""

from types import SimpleNamespace

from mmdet.models.dense_heads import RetinaHead
from mmdet.models.dense_heads import YOLOXHead as _YOLOXHead
from mmdet.models.task_modules import DeltaXYWHBBoxCoder as _Deltas

from aqd_mmdet.compiler.owners import coder_of, is_known, owner_of

METHODS = ('predict_by_feat', '_bbox_decode')


class YOLOXHead(_YOLOXHead):
    def _bbox_decode(self, *args):
        return 2 * super()._bbox_decode(*args)


class Kept(_YOLOXHead):
    pass


class DeltaXYWHBBoxCoder(_Deltas):
    def decode(self, *args, **kwargs):
        return 2 * super().decode(*args, **kwargs)


def _new(cls):
    return cls.__new__(cls)


def test_owners_are_the_most_derived_classes():
    assert owner_of(_new(RetinaHead), METHODS) == 'BaseDenseHead'
    assert owner_of(_new(_YOLOXHead), METHODS) == 'YOLOXHead'
    assert owner_of(_new(Kept), METHODS) == 'YOLOXHead'


def test_a_class_of_another_package_is_not_mmdets_of_that_name():
    assert owner_of(_new(YOLOXHead), METHODS) == f'{__name__}.YOLOXHead'
    assert owner_of('text', METHODS) == 'builtins.str'


def test_coders_are_known_by_how_they_decode():
    class Subclass(_Deltas):
        pass

    for coder, name in (
        (_Deltas(), 'DeltaXYWHBBoxCoder'),
        (Subclass(), 'DeltaXYWHBBoxCoder'),
        (DeltaXYWHBBoxCoder(), f'{__name__}.DeltaXYWHBBoxCoder'),
    ):
        assert coder_of(SimpleNamespace(bbox_coder=coder)) == name


def test_known_packages():
    assert is_known(RetinaHead)
    assert not is_known(YOLOXHead)
    assert not is_known(None)
