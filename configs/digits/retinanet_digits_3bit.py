_base_ = './retinanet_digits_fp.py'

model = dict(bits=3)
# Low bits gain by longer trainings: see docs/recipes.md.
train_cfg = dict(max_epochs=22)
# The float detector that training starts from: train _base_ first.
load_from = 'work_dirs/retinanet_digits_fp/epoch_14.pth'
