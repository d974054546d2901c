# The float FCOS-R50 on COCO that the quantised ones start from.
_base_ = './fcos_r50_fpn_bn_1x_coco.py'
