"""The network sees an image once for all members of a combination that score the same features of it."""

import numpy as np
import pytest
from conftest import TINY, draw_category, networks_of

import cutpaste_tf
from cutpaste_tf import devices
from cutpaste_tf.backend import tf
from cutpaste_tf.detection import loading
from cutpaste_tf.detection.cache import FeatureCache
from cutpaste_tf.detection.graphs.graph import CombinedGraph
from cutpaste_tf.detection.training_images import TrainingImages
from cutpaste_tf.images import sources
from cutpaste_tf.images.image_set import ImageSet
from cutpaste_tf.progress import no_report
from cutpaste_tf.runs import TrainingData

# Three embeddings, of patches (layer1, three densities), of images (layer2, two densities), and of patches (layer2).
CONFIG = TINY.replaced(
    epochs=0,
    image_size=(64, 80),
    patch_size=32,
    stride=8,
    dense="fast",
    feature="layer1",
    density_mode="per_location",
    combine="feature=layer2; patch_size=32 stride=8 dense=fast feature=layer1 density_mode=shared; "
    "patch_size=32 stride=8 dense=fast feature=layer2; feature=layer2 density=kde; "
    "patch_size=32 stride=8 dense=fast feature=layer1 density=nearest",
)
EMBEDDINGS = 3


@pytest.fixture(scope="module")
def category(tmp_path_factory):
    return draw_category(tmp_path_factory.mktemp("data") / "category")


@pytest.fixture(scope="module")
def examples(category):
    size = CONFIG.data.size
    return sources.read_train(category, size), sources.read_test(category, size)


@pytest.fixture(scope="module")
def fitted(examples):
    images, network = examples[0].images, networks_of(CONFIG).feature
    together = loading.make(network, CONFIG, TrainingData.of(examples[0])).fit(images)
    alone = [loading.make_single(network, part, TrainingData.of(examples[0])).fit(images) for part in CONFIG.parts]
    return together, alone


@pytest.fixture
def seen(monkeypatch):
    """The number of images in each batch that a network gets."""
    batches, outputs = [], devices.outputs
    monkeypatch.setattr(devices, "outputs", lambda net, batch: batches.append(len(batch)) or outputs(net, batch))
    return batches


def test_members_are_fitted_and_score_as_alone_to_the_last_bit(fitted, examples):
    together, alone = fitted
    embedded = together.embed(examples[1].images)
    for part, single, scores in zip(together.parts, alone, embedded, strict=True):
        np.testing.assert_array_equal(part.held_out_, single.held_out_)
        np.testing.assert_array_equal(scores, single.embed(examples[1].images))
        ours, theirs = part.density.to_arrays(), single.density.to_arrays()
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            np.testing.assert_array_equal(array, theirs[name])


def test_each_embedding_is_computed_once(examples, seen):
    images = examples[0].images
    detector = loading.make(networks_of(CONFIG).feature, CONFIG, TrainingData.of(examples[0])).fit(images)
    assert sum(seen) == EMBEDDINGS * len(images)
    seen.clear()
    detector.score(images, heat_maps=True)
    assert sum(seen) == EMBEDDINGS * len(images)


def test_a_cache_that_lacks_a_member_is_filled_in_one_pass(category, seen, tmp_path):
    config = CONFIG.replaced(data=str(category))
    cutpaste_tf.train(config, tmp_path / "run", report=no_report)
    detector = loading.load(tmp_path / "run")
    model = tmp_path / "run/detector/model.keras"
    training = TrainingImages(tmp_path, config, detector.data, detector.how_read, tfds_data_dir="", report=no_report)
    detector.attach(FeatureCache(tmp_path / "cache", model, no_report), training)

    def scores():
        seen.clear()
        items = sources.list_test(category, detector.how_read)
        return detector.score_set(ImageSet(items, detector.size, detector.how_read), heat_maps=False).scores

    first = scores()
    assert sum(seen) == EMBEDDINGS * len(first)
    np.testing.assert_array_equal(scores(), first)
    assert not seen
    for file in (tmp_path / "cache").iterdir():
        content = file.read_bytes()
        file.unlink()
        np.testing.assert_array_equal(scores(), first)
        assert sum(seen) == len(first)
        assert file.read_bytes() == content


class _Member:
    """Counts how often it embeds."""

    def __init__(self):
        self.embedded = 0

    def embed(self, images, to_unit_range):
        self.embedded += 1
        return to_unit_range(images)

    def negative_log_density(self, embedded):
        return tf.reduce_sum(embedded, axis=1), embedded[:, None]

    def reduce(self, densities, maps):
        return densities, maps


def test_a_graph_embeds_once_for_members_alike():
    members = [_Member(), _Member(), _Member()]
    graph = CombinedGraph(members, ["a", "b", "a"], [(0.0, 1.0, 1.0)] * 3, single=True)
    images = tf.constant([[1.0, 2.0], [3.0, 5.0]])
    scores, maps = graph.reduce(*graph.negative_log_density(graph.embed(images, lambda x: 2 * x)))
    np.testing.assert_array_equal(scores, [6, 16])
    np.testing.assert_array_equal(maps, 2 * images[:, None])
    assert sum(member.embedded for member in members) == 2
