# RTMDet-s.
_base_ = [
    'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py',
    '../_base_/models/aqd_rtmdet.py',
]

model = dict(detector='RTMDet', bits=4, **_base_.aqd)
default_hooks = _base_.aqd_hooks
