"""Codes of a program, compared with those of the float simulation."""

import pytest

from aqd_mmdet.compiler.verify import compare, new_agreements
from tests.factories import normalised, pixels


@pytest.mark.parametrize('detector', ['retinanet', 'fcos'])
@pytest.mark.parametrize('bits', [2, 3, 4, 8])
def test_codes_are_the_simulations_where_layers_are_fed_alike(
    compiled, bits, detector
):
    net = compiled(18, bits, detector)
    image = pixels(2, 3, 96, 128)
    agreements = new_agreements()
    compare(net.trace, net.folded, image, normalised(image), agreements)
    read = {n for names in net.folded.codes.values() for n in names}
    # The stem's input is the image itself.
    assert set(agreements) == read
    total = sum(a.count for a in agreements.values())
    equal = sum(a.equal_per_layer for a in agreements.values())
    assert equal / total >= 0.9999
    assert max(a.worst_per_layer for a in agreements.values()) <= 1
