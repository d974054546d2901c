# RTMDet-s.
_base_ = [
    'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py',
    '../_base_/mix_rtmdet.py',
]

model = _base_.aqd
default_hooks = _base_.aqd_hooks
