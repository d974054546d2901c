# FCOS-R50 on COCO, 4 bits in weights and activations.
_base_ = './fcos_r50_fpn_aqd-w4a4_1x_coco.py'

# Where training fcos_fp.py leaves the float detector.
load_from = 'work_dirs/fcos_fp/epoch_12.pth'
