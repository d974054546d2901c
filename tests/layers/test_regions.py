"""Features of regions, read from rounded maps."""

import pytest
import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

from aqd_mmdet.errors import UserError
from aqd_mmdet.layers.pool import PoolOptions
from aqd_mmdet.layers.regions import ROI_EXTRACTOR, QuantRoIExtractor
from tests.factories import started


def extractor(
    kind: type[SingleRoIExtractor] = SingleRoIExtractor,
) -> SingleRoIExtractor:
    return kind(
        roi_layer=dict(type='RoIAlign', output_size=1, sampling_ratio=1),
        out_channels=1,
        featmap_strides=[4, 8],
    )


def test_maps_are_rounded_before_regions_are_read():
    # Codes 0 to 3 of a step of 1/3.
    layer = started(QuantRoIExtractor(extractor(), bits=2))
    maps = [torch.full((1, 1, 8, 8), 0.6), torch.full((1, 1, 4, 4), 9.0)]
    rois = torch.tensor([[0.0, 4, 4, 20, 20]])
    assert torch.allclose(layer(maps, rois), torch.tensor(2 / 3))
    assert (layer.num_inputs, layer.featmap_strides) == (2, [4, 8])


def test_it_stands_for_mmdets_own_extractor_alone():
    class Other(SingleRoIExtractor):
        pass

    original = extractor()
    assert ROI_EXTRACTOR.applies(original)
    assert not ROI_EXTRACTOR.applies(extractor(Other))
    layer = ROI_EXTRACTOR.build(original, PoolOptions(), 4)
    assert layer.extractor is original


def test_grids_with_gaps_are_refused():
    with pytest.raises(UserError, match="the grid 'odd' has"):
        QuantRoIExtractor(extractor(), 4, 'odd')
