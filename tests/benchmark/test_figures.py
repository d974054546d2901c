"""The figures that follow from the turns of a worker."""

from aqd_mmdet.benchmark import figures
from aqd_mmdet.benchmark.cases import Boxes, Network
from aqd_mmdet.benchmark.layers import Chain
from aqd_mmdet.benchmark.worker import Turn

TINY = Chain('tiny', ((8, 8),), 3, (6, 6))


def test_summary():
    assert figures.summary([5.0, 1.0, 3.0, 2.0, 4.0]) == (3.0, 2.0, 4.0)
    assert figures.summary([7.0]) == (7.0, 7.0, 7.0)


def test_time_of_a_layer_is_a_fourth_of_the_difference():
    turn = Turn(((9.0, 10.0), (1.0, 4.0)), 24.0, 24.0)
    assert figures.latencies(TINY, turn) == [2.0, 1.5]


def test_least_time_of_a_layer_is_the_difference_of_least_times():
    turns = [
        Turn(((9.0, 10.0), (1.0, 4.0)), 24.0, 24.0),
        Turn(((5.0,), (4.0,)), 9.0, 9.0),
    ]
    assert figures.least(TINY, turns) == 1.0
    assert figures.least(Network('retinanet-r18', (320, 320)), turns) == 5.0


def test_time_of_a_network_is_the_time_of_its_runs():
    turn = Turn(((9.0, 10.0),), 19.0, 19.0)
    case = Network('retinanet-r18', (320, 320))
    assert figures.latencies(case, turn) == [9.0, 10.0]


def test_times_of_all_callers_count():
    turn = Turn(((9.0, 10.0), (8.0,)), 19.0, 19.0)
    case = Boxes(Network('yolox-nano', (416, 416)), ('a.jpg',))
    assert figures.latencies(case, turn) == [9.0, 10.0, 8.0]
    assert figures.least(case, [turn]) == 8.0


def test_slowest_in_a_hundred():
    assert figures.p99([float(x) for x in range(101)]) == 99.0
    assert figures.p99([7.0]) == 7.0


def test_throughput_is_of_all_callers_until_the_last_run_ends():
    assert figures.throughput([[0.5, 0.5]]) == 2.0
    assert figures.throughput([[1.0, 1.0], [1.5, 1.0]]) == 4 / 2.5
