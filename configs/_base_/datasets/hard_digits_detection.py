# Scenes of digits that are larger, fuller and of less contrast:
# python tools/make_digits.py --out data/hard_digits --train 1500 --size 192
#     --min-digit 12 --max-digits 10 --clutter 8 --contrast 40
_base_ = './digits_detection.py'

# --------------------------- often changed ---------------------------
data_root = 'data/hard_digits/'
scale = (192, 192)

# ------------------------- sometimes changed -------------------------
train_pipeline = _base_.train_pipeline
train_pipeline[2].update(scale=scale)
train_pipeline[3].update(crop_size=scale)
train_pipeline[4].update(size=scale)
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=scale)

# ----------------------- hardly ever changed -------------------------
train_dataloader = dict(
    batch_size=32,
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(
    dataset=dict(data_root=data_root, pipeline=test_pipeline)
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'val.json')
test_evaluator = val_evaluator
