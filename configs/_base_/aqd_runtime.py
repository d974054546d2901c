# mmdet's runtime with this package's layers and hooks.
_base_ = ['mmdet::_base_/default_runtime.py', './aqd_hooks.py']

default_hooks = _base_.aqd_hooks
