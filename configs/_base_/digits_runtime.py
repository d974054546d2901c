# The embedded dataset's epochs are short.
_base_ = './aqd_runtime.py'

default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=2)
)
