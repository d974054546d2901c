# AQD for detectors with a stem called backbone.conv1, any FPN and a dense head
# whose towers are called *_convs: RetinaNet, FCOS, ATSS, GFL and more.
# One without shortcuts that are convolutions, and without an FPN, leaves the
# last rule out: recipe[:-1].
# The detector's own `bits` stand where a rule names none; last match wins.
recipe = [
    dict(modules='*', conv=dict()),
    # The stem reads the 8-bit image.
    dict(
        modules=['backbone.conv1', 'backbone.stem.0'],
        conv=dict(weight_bits=8, act_grid='image'),
    ),
    # Output convolutions have 8 bits, the towers before them do not.
    dict(modules='bbox_head.*', conv=dict(weight_bits=8, act_bits=8)),
    dict(modules='bbox_head.*_convs.*', conv=dict()),
    # Residual additions and those of the feature pyramid; a ReLU follows the
    # one and precedes the other, so that no sum below zero is needed.
    dict(modules='*', add=dict(bits=8, signed=False)),
    # Towers are shared by the levels of the pyramid, their norms are not.
    # Without this line they share the norms, too.
    dict(modules='bbox_head.*_convs.*', norm=dict()),
    # Projections read 8 bits: shortcuts between stages, and what enters the
    # pyramid. Else all that a sum of 8 bits holds would go on as 2 bits. They
    # are few of all products. The publication does without: docs/recipes.md.
    dict(
        modules=['backbone.*.downsample.*', 'neck.*lateral_convs.*'],
        conv=dict(act_bits=8),
    ),
]
