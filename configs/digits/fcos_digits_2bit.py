_base_ = './fcos_digits_fp.py'

model = dict(bits=2)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
# The float detector that training starts from: train _base_ first.
load_from = 'work_dirs/fcos_digits_fp/epoch_18.pth'
