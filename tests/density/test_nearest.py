import numpy as np
import pytest

from cutpaste_tf import arrays
from cutpaste_tf.density import nearest
from cutpaste_tf.density.nearest import NearestDensity, NearestPatches, farthest_first
from cutpaste_tf.errors import InputError


def _features(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) + 1


def _scores(features, others, neighbors):
    each = 0.5 * np.sum((np.float64(features)[:, None] - np.float64(others)[None]) ** 2, axis=2)
    return np.sort(each, axis=1)[:, :neighbors].mean(axis=1)


@pytest.mark.parametrize("neighbors", [1, 3])
@pytest.mark.parametrize("l2_normalize", [True, False])
def test_the_score_is_half_the_mean_squared_distance_to_the_nearest(neighbors, l2_normalize):
    train, test = _features(9, 4), _features(5, 4, seed=1)
    density = NearestDensity(neighbors=neighbors, l2_normalize=l2_normalize).fit(train)
    if l2_normalize:
        train, test = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test))
    np.testing.assert_allclose(-density.score_samples(test), _scores(test, train, neighbors), rtol=1e-6)


@pytest.mark.parametrize("groups", [None, np.array([0, 0, 1, 1, 1, 2])])
def test_held_out_is_a_fit_without_the_image_or_its_group(groups):
    features = _features(6, 4)
    found = NearestDensity(neighbors=2).fit(features).held_out(features, groups)
    for index in range(6):
        left_out = np.arange(6) == index if groups is None else groups == groups[index]
        others = NearestDensity(neighbors=2).fit(features[~left_out])
        assert found[index] == pytest.approx(others.score_samples(features[index : index + 1]).item(), rel=1e-9)


def test_its_gradient_is_the_slope_of_its_score():
    density = NearestDensity(neighbors=2).fit(_features(9, 4))
    x, step = np.float64(_features(3, 4, seed=1)), 1e-6 * np.eye(4)
    numeric = [(density.score_samples(x - one) - density.score_samples(x + one)) / 2e-6 for one in step]
    np.testing.assert_allclose(density.score_gradient(x), np.transpose(numeric), rtol=1e-5)


def test_farthest_first_covers_a_line_from_its_ends():
    points = np.array([[0.0], [1.0], [2.0], [3.0], [10.0]], np.float32)
    assert farthest_first(points, 4).tolist()[:3] == [4, 0, 3]
    assert farthest_first(points, 9).tolist() == [0, 1, 2, 3, 4]
    assert len(set(farthest_first(np.zeros((6, 2), np.float32), 4))) == 4  # of equal points each once


def test_a_memory_of_every_patch_gives_their_scores():
    train, test = _features(4, 3, 5), _features(2, 3, 5, seed=1)
    memory = NearestPatches(coreset=100, l2_normalize=False).fit(iter(train), 4)
    expected = _scores(test.reshape(-1, 5), train.reshape(-1, 5), 1).reshape(2, 3)
    np.testing.assert_allclose(-memory.score_samples(test), expected, rtol=1e-6)
    for image in range(4):  # held out: by the patches of the other images
        others = np.delete(train, image, axis=0).reshape(-1, 5)
        np.testing.assert_allclose(memory.held_out[image], _scores(train[image], others, 1), rtol=1e-6)


def test_images_of_a_group_are_left_out_together():
    train = _features(4, 3, 5)
    memory = NearestPatches(coreset=100, l2_normalize=False).fit(iter(train), 4, np.array([0, 0, 1, 2]))
    others = train[2:].reshape(-1, 5)
    np.testing.assert_allclose(memory.held_out[0], _scores(train[0], others, 1), rtol=1e-6)


def test_a_coreset_is_nearer_to_all_patches_than_as_many_at_random():
    """What greedy k-center is for: a few odd patches are kept, which a random choice leaves out."""
    odd, common = _features(1, 40, 5) + 20, 0.1 * _features(9, 40, 5, seed=1)
    train = np.concatenate([odd, common])
    memory = NearestPatches(coreset=30, l2_normalize=False).fit(iter(train), 10)
    farthest = -memory.score_samples(train).min()
    drawn = train.reshape(-1, 5)[np.random.default_rng(0).permutation(400)[:30]]
    assert farthest < 0.5 * _scores(train.reshape(-1, 5), drawn, 1).max()
    assert len(memory.to_arrays()["features"]) == 30


def test_more_dimensions_are_projected_to_choose_and_kept_whole_to_score():
    train = _features(3, 200, 300)
    memory = NearestPatches(coreset=50, l2_normalize=False).fit(iter(train), 3)
    kept = memory.to_arrays()["features"]
    assert kept.shape == (50, 300)
    assert {row.tobytes() for row in np.float32(kept)} <= {row.tobytes() for row in train.reshape(-1, 300)}


def test_where_features_do_not_fit_some_images_are_held(monkeypatch):
    train = _features(6, 3, 5)
    monkeypatch.setattr(nearest, "_HELD", 2 * train[0].nbytes)
    memory = NearestPatches(coreset=100, l2_normalize=False).fit(iter(train), 6)
    kept = memory.to_arrays()["features"]
    np.testing.assert_array_equal(np.float32(kept), train[[0, 3]].reshape(-1, 5))
    assert memory.held_out.shape == (2, 3)


def test_large_features_lie_in_a_file_to_the_same_result(monkeypatch):
    train = _features(7, 5, 12)
    held = NearestPatches(coreset=20).fit(iter(train), 7)
    monkeypatch.setattr(arrays, "MEMORY_LIMIT", 100)
    np.testing.assert_array_equal(NearestPatches(coreset=20).fit(iter(train), 7).held_out, held.held_out)


def test_what_is_saved_scores_the_same(tmp_path):
    train, test = _features(7, 5, 12), _features(3, 5, 12, seed=1)
    fitted = NearestPatches(coreset=20, neighbors=2).fit(iter(train), 7)
    fitted.save(tmp_path)
    again = NearestPatches(coreset=20, neighbors=2).load(tmp_path)
    np.testing.assert_array_equal(again.score_samples(test), fitted.score_samples(test))


def test_what_cannot_be_is_refused():
    train = _features(4, 3, 5)
    with pytest.raises(InputError, match="--coreset=1 keeps patches from too few images; raise it"):
        NearestPatches(coreset=1).fit(iter(train), 4)
    train[2, 1, 0] = np.nan
    with pytest.raises(InputError, match="training has diverged"):
        NearestPatches(coreset=9).fit(iter(train), 4)
