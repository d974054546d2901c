# RetinaNet on blood cells, on a MobileNetV2 that was trained on ImageNet.
_base_ = './retinanet_bccd.py'

# Of mmdet's MobileNetV2, names begin with `backbone.`: see README.md.
checkpoint = 'data/mobilenet_v2_imagenet.pth'

model = dict(
    # Its blocks differ from those of a ResNet.
    recipe=[
        dict(modules='*', conv=dict()),
        # The narrow ends of blocks have no activation.
        dict(modules='*.expand_conv.conv', conv=dict(act_grid='signed')),
        dict(modules='backbone.conv2.conv', conv=dict(act_grid='signed')),
        # Depthwise convolutions have a fortieth of all weights. Each reads one
        # channel, of which few bits would be left.
        dict(
            modules='*.depthwise_conv.conv',
            conv=dict(weight_bits=8, act_bits=8),
        ),
        # The stem reads the 8-bit image.
        dict(
            modules='backbone.conv1.conv',
            conv=dict(weight_bits=8, act_grid='image'),
        ),
        # Output convolutions have 8 bits, the towers before them do not.
        dict(modules='bbox_head.*', conv=dict(weight_bits=8, act_bits=8)),
        dict(modules='bbox_head.*_convs.*', conv=dict()),
        dict(modules='bbox_head.*_convs.*', norm=dict()),
        # What enters the pyramid has 8 bits; from ends of blocks it is signed.
        dict(modules='neck.lateral_convs.*', conv=dict(act_bits=8)),
        dict(
            modules=['neck.lateral_convs.0.*', 'neck.lateral_convs.1.*'],
            conv=dict(act_grid='signed', act_bits=8),
        ),
        dict(modules='backbone.*', add=dict(bits=8, signed=True)),
        dict(modules='neck', add=dict(bits=8, signed=False)),
    ],
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        out_indices=(2, 4, 7),
        init_cfg=dict(
            type='aqd_mmdet.PretrainedRawImage',
            checkpoint=checkpoint,
            prefix='backbone',
            stem='conv1.conv',
            norm='conv1.bn',
        ),
    ),
    neck=dict(
        in_channels=[32, 96, 1280],
        start_level=0,
        add_extra_convs='on_output',
    ),
)
