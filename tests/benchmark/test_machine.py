"""Energy counters, and the description of the machine."""

from aqd_mmdet.benchmark import machine


def test_no_counter(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, 'POWERCAP', tmp_path)
    energy = machine.Energy()
    assert 'no counter' in energy.missing
    assert energy.joules(energy.read()) is None


def test_counter_that_overflows(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, 'POWERCAP', tmp_path)
    folder = tmp_path / 'intel-rapl:0'
    folder.mkdir()
    (folder / 'name').write_text('package-0\n')
    (folder / 'max_energy_range_uj').write_text('10000000\n')
    (folder / 'energy_uj').write_text('9000000\n')
    energy = machine.Energy()
    before = energy.read()
    (folder / 'energy_uj').write_text('1500000\n')
    assert energy.missing == ''
    assert energy.joules(before) == 2.5


def test_description():
    assert machine.describe().cores >= 1
    assert machine.busy_seconds() > 0
