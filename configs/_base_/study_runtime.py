# Short trainings that count steps; the last weights alone are kept.
_base_ = './aqd_runtime.py'

default_hooks = dict(
    # Few steps, but slow ones on a CPU.
    compile_quantizers=dict(min_steps=200),
    logger=dict(interval=20),
    checkpoint=dict(
        interval=-1,
        by_epoch=False,
        save_last=True,
        save_optimizer=False,
        save_param_scheduler=False,
    ),
)
log_processor = dict(by_epoch=False)
