_base_ = './fcos_r50_fpn_bn_1x_coco.py'

model = dict(bits=3, backbone=dict(init_cfg=None))
optim_wrapper = dict(optimizer=dict(lr=0.001))
# The float detector that training starts from: train _base_ first.
load_from = 'work_dirs/fcos_r50_fpn_bn_1x_coco/epoch_12.pth'
