# The quickstart's RetinaNet with the published widths: projections have those
# of all other convolutions.
_base_ = '../digits/retinanet_digits_fp.py'

model = dict(recipe=_base_.recipe[:-1])
