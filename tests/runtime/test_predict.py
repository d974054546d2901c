"""Detector.predict and what it gives; detectors in other processes."""

import pickle
import sys
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file
from aqd_mmdet.runtime import Detector, Prediction, reference
from tests.factories import detector


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file.save(detector(), tmp_path / 'model.aqd')
    return tmp_path / 'model.aqd'


def picture(seed: int = 0, height: int = 40, width: int = 60) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / 'in').mkdir()
    for seed in range(3):
        Image.fromarray(picture(seed)).save(tmp_path / f'in/{seed}.png')
    return tmp_path / 'in'


def same(a: Prediction, b: Prediction) -> bool:
    return all(map(np.array_equal, a.found, b.found)) and len(a) > 0


def test_pixels_and_shares_of_the_integers(model):
    found = Detector(model)(picture())
    seen = Detector(model).predict(picture())
    assert seen.boxes.dtype == seen.scores.dtype == np.float32
    assert seen.boxes.shape == (len(seen), 4) and len(seen) > 0
    # float32 holds each integer, so that nothing is rounded.
    assert np.array_equal(seen.boxes.astype(float) * 256, found.boxes)
    assert np.array_equal(seen.scores.astype(float) * 2**24, found.scores)
    assert np.array_equal(seen.labels, found.labels)
    labels = Detector(model).labels
    assert seen.names == tuple(labels[label] for label in found.labels)
    assert (seen.size, seen.path) == ((40, 60), None)


def test_files_lists_and_folders(model, folder):
    run = Detector(model)
    alone = [run.predict(picture(seed)) for seed in range(3)]
    path = folder / '1.png'
    assert same(run.predict(path), alone[1])
    assert same(run.predict(str(path)), alone[1])
    assert run.predict(path).path == path
    mixed = run.predict([picture(0), path, str(folder / '2.png')])
    assert isinstance(mixed, list)
    assert all(map(same, mixed, alone))
    (folder / 'notes.txt').write_text('mine')
    walk = run.predict(folder)
    assert iter(walk) is walk
    assert all(map(same, walk, alone))
    assert [x.path.name for x in run.predict(str(folder))] == [
        '0.png', '1.png', '2.png',
    ]  # fmt: skip


def test_the_least_score(model):
    run = Detector(model)
    every = run.predict(picture())
    least = float(np.median(every.scores))
    some = run.predict(picture(), score=least)
    assert 0 < len(some) < len(every)
    assert (some.scores >= least).all()
    assert np.array_equal(some.boxes, every.boxes[every.scores >= least])


@pytest.mark.parametrize('score', [-0.1, 1.5, float('nan'), '0.3', None])
def test_scores_that_are_none(model, score):
    with pytest.raises(UserError, match='give a number from 0 to 1'):
        Detector(model).predict(picture(), score)


@pytest.mark.parametrize(
    'source, message',
    [
        ('nothing.png', 'image nothing.png: no such file'),
        ([picture(), picture()[..., 0]], 'image 1: expected RGB'),
        (3, 'image: expected uint8 pixels'),
        ([[picture()]], 'image 0: expected uint8 pixels .*got list'),
        (np.ma.masked_array(picture()), 'image: expected pixels, got a mask'),
        ('', 'image: an empty name'),
    ],
)
def test_sources_that_are_refused(model, source, message):
    with pytest.raises(UserError, match=message):
        Detector(model).predict(source)


def test_boxes_are_drawn(model, folder):
    run = Detector(model)
    drawn = run.predict(picture(1)).plot(score=0)
    assert drawn.shape == (40, 60, 3) and drawn.dtype == np.uint8
    assert not np.array_equal(drawn, picture(1))
    # The picture of a file is read again.
    again = run.predict(folder / '1.png').plot(score=0)
    assert np.array_equal(again, drawn)
    assert np.array_equal(run.predict(picture(1)).plot(score=1), picture(1))


def test_what_cannot_be_drawn_with(model):
    seen = Detector(model).predict(picture())
    with pytest.raises(UserError, match='score 30: give a number from 0 to 1'):
        seen.plot(30)
    with pytest.raises(UserError, match='--font my.ttf: no such file'):
        seen.plot(font='my.ttf')


def test_a_file_of_another_size_is_not_drawn_on(model, folder):
    seen = Detector(model).predict(folder / '1.png')
    Image.fromarray(picture(height=60, width=40)).save(folder / '1.png')
    with pytest.raises(UserError, match='1.png: it has another size'):
        seen.plot()


def test_coco_results(model):
    seen = Detector(model).predict(picture())
    results = seen.to_coco(7)
    assert len(results) == len(seen)
    for result, box, score, label in zip(
        results, seen.boxes, seen.scores, seen.labels, strict=True
    ):
        x0, y0, x1, y1 = box.tolist()
        assert result == {
            'image_id': 7,
            'category_id': label,
            'bbox': [x0, y0, x1 - x0, y1 - y0],
            'score': float(score),
        }
    assert type(results[0]['category_id']) is int
    ids = [x['category_id'] for x in seen.to_coco('a', [90, 12])]
    assert ids == [(90, 12)[label] for label in seen.labels]
    with pytest.raises(UserError, match='category_ids: expected 2, one for'):
        seen.to_coco(7, [1])
    with pytest.raises(UserError, match='category_ids: expected integers'):
        seen.to_coco(7, [1.5, 2])


def test_supervision(model, monkeypatch):
    seen = Detector(model).predict(picture())
    monkeypatch.setitem(sys.modules, 'supervision', None)
    with pytest.raises(UserError, match='pip install supervision') as caught:
        seen.to_supervision()
    assert '\n' not in str(caught.value)
    stub = SimpleNamespace(Detections=lambda **fields: fields)
    monkeypatch.setitem(sys.modules, 'supervision', stub)
    fields = seen.to_supervision()
    assert np.array_equal(fields['xyxy'], seen.boxes)
    assert np.array_equal(fields['confidence'], seen.scores)
    assert np.array_equal(fields['class_id'], seen.labels)
    assert fields['data']['class_name'].tolist() == list(seen.names)


def test_other_processes_find_the_same(model, folder):
    run = Detector(model, threads=1)
    paths = sorted(folder.iterdir())
    with get_context('spawn').Pool(2) as pool:
        found = pool.map(run.predict, paths, chunksize=1)
    assert all(map(same, found, map(run.predict, paths)))


def test_a_file_is_pickled_by_its_path(model, monkeypatch):
    monkeypatch.chdir(model.parent)
    content = pickle.dumps(Detector(model.name, threads=1))
    assert len(content) < 1000
    monkeypatch.chdir('/')
    assert same(
        pickle.loads(content).predict(picture()),
        Detector(model).predict(picture()),
    )


class Own(Detector):
    """A detector with a name of its own."""


def test_a_class_of_ones_own_is_kept(model):
    for made in (Own(model), Own(detector())):
        assert type(pickle.loads(pickle.dumps(made))) is Own


def test_an_object_is_pickled_by_its_content(model):
    run = Detector(detector())
    content = pickle.dumps(run)
    model.unlink()
    assert same(
        pickle.loads(content).predict(picture()), run.predict(picture())
    )


def test_a_given_run_cannot_be_pickled(model):
    with pytest.raises(UserError, match='run= cannot be pickled') as caught:
        pickle.dumps(Detector(model, run=reference.run))
    assert '\n' not in str(caught.value)


def test_arrays_need_no_pillow(model, folder, monkeypatch):
    run = Detector(model)
    monkeypatch.setitem(sys.modules, 'PIL', None)
    seen = run.predict(picture())
    assert len(seen.to_coco(1)) == len(seen) > 0
    for call in (
        lambda: run.predict(folder / '1.png'),
        lambda: run.predict(folder),
        seen.plot,
    ):
        with pytest.raises(UserError, match='pip install pillow'):
            call()
