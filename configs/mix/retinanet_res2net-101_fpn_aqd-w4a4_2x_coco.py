# RetinaNet on Res2Net, whose blocks average.
_base_ = [
    'mmdet::retinanet/retinanet_r101_fpn_2x_coco.py',
    '../_base_/models/aqd_single_stage.py',
]

model = dict(detector='RetinaNet', bits=4, **_base_.aqd)
model['recipe'] = [*_base_.recipe, dict(modules='backbone.*', pool=dict())]
model['backbone'].update(type='Res2Net', scales=4, base_width=26)
model['backbone']['init_cfg'].update(
    stem='stem.0', checkpoint='open-mmlab://res2net101_v1d_26w_4s'
)
default_hooks = _base_.aqd_hooks
