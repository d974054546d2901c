# mmdet's COCO.
_base_ = 'mmdet::_base_/datasets/coco_detection.py'

train_dataloader = dict(persistent_workers=False)  # so that resuming is exact
