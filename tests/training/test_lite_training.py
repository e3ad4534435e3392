"""Training `lite`: samples are pure functions, the loss falls, and a resumed run is the straight
run."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn import functional

cv2 = pytest.importorskip("cv2")

from longtake.nets.lite import Lite, LiteConfig  # noqa: E402
from longtake.weights import checkpoint as weights  # noqa: E402
from training.lite import degrade, train  # noqa: E402
from training.lite.canvases import make_canvas  # noqa: E402
from training.lite.checkpoint import read_checkpoint  # noqa: E402
from training.lite.crisp import CrispRecipe, bands, energy_error, free, grey, grid_error  # noqa: E402
from training.lite.network import trainable  # noqa: E402
from training.lite.photos import Album, photographs  # noqa: E402
from training.lite.samples import Pool, SampleRecipe, Workers, make_sample  # noqa: E402

CPU = torch.device("cpu")
SAMPLES = SampleRecipe(size=32, canvas=192, shot=3, kept=2, canvases_per_sample=0.25, streams=2)
RECIPE = train.TrainingRecipe(
    net=LiteConfig(width=8, depth=2), samples=SAMPLES, batch=4, patch=16, pool=24, first=1
)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


CRISP = replace(RECIPE, crisp=CrispRecipe(adversary=0.5, warm_up=3, side=32))


def begun(recipe: train.TrainingRecipe = RECIPE) -> train.Training:
    return train.Training(recipe, CPU)


def clock(training: train.Training, stop_at: int) -> train.Clock:
    return train.Clock(training, steps=8, stop_at=stop_at, minutes=0, schedule_minutes=0)


def test_a_canvas_depends_on_seed_and_number_only():
    first = make_canvas(0, 5, 96)
    assert first.shape == (96, 96, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, make_canvas(0, 5, 96))
    assert not np.array_equal(first, make_canvas(0, 6, 96))
    assert not np.array_equal(first, make_canvas(1, 5, 96))


def test_a_sample_depends_on_recipe_and_index_only():
    for index in range(4):
        scale = SAMPLES.scale_of(index)
        small, large = make_sample(SAMPLES, index)
        assert small.shape == (3, 2, 32, 32, 3)
        assert large.shape == (2, 32 * scale, 32 * scale, 3)
        again = make_sample(SAMPLES, index)
        assert np.array_equal(small, again[0])
        assert np.array_equal(large, again[1])


def test_patches_show_the_same_place():
    """Enlarged, a small patch without a codec is near its large one, and far from another's."""
    pool = Pool(replace(SAMPLES, scales=(4,), shares=(1.0,)), 16, CPU)
    for index in range(8):
        pool.add(index, *make_sample(pool.recipe, index))
    small, large = pool.draw(4, 16, 16, clean=1.0, draws=torch.Generator().manual_seed(0))
    assert small.shape == (16, 3, 16, 16)
    assert large.shape == (16, 3, 64, 64)
    mean = torch.nn.functional.avg_pool2d(large, 4)
    error = (mean - small).abs().mean()
    assert error < 0.03
    assert error < 0.5 * (mean - small.roll(1, 0)).abs().mean()


@pytest.mark.parametrize("kernel", list(degrade.KERNELS))
def test_reduction_keeps_a_ramp(kernel):
    ramp = np.linspace(40, 200, 48)[None, None, :, None] * np.ones((1, 48, 1, 3))
    reduced = degrade.reduce(ramp.astype(np.uint8), 12, kernel)
    wanted = ramp.astype(np.uint8).astype(np.float32).reshape(1, 12, 4, 12, 4, 3).mean((2, 4))
    assert np.abs(reduced - wanted)[:, 2:-2, 2:-2].max() < 1.5


@pytest.mark.parametrize("encoder", ["libx264", "libx265"])
def test_a_codec_gives_every_frame_back_a_little_worse(encoder):
    shot = np.stack([make_canvas(0, 3, 96)] * 3)
    options = {"crf": "24", "preset": "veryfast"}
    if encoder == "libx265":
        options["x265-params"] = "log-level=none"
    coded = degrade.through_codec(shot, encoder, options)
    assert coded.shape == shot.shape
    assert 0 < np.abs(coded.astype(int) - shot).mean() < 25


@pytest.mark.parametrize("recipe", [RECIPE, CRISP], ids=["faithful", "crisp"])
def test_a_resumed_run_is_the_straight_run(tmp_path, recipe):
    straight, broken, resumed = (tmp_path / name for name in ("straight", "broken", "resumed"))
    for folder in (straight, broken, resumed):
        folder.mkdir()
    first = begun(recipe)
    train.run(first, clock(first, 8), straight, workers=0, every=1000)
    second = begun(recipe)
    train.run(second, clock(second, 5), broken, workers=0, every=1000)
    third = begun(recipe)
    third.resume(broken / "checkpoint.pt", pool=True)
    assert third.step == 5
    train.run(third, clock(third, 8), resumed, workers=0, every=1000)
    wanted, found = (read_checkpoint(f / "checkpoint.pt") for f in (straight, resumed))
    for part in ("net", "average"):
        assert wanted[part].keys() == found[part].keys()
        for name, tensor in wanted[part].items():
            assert torch.equal(tensor, found[part][name]), name
    assert wanted["pool"] == found["pool"]
    assert wanted["progress"][0] == found["progress"][0] == 8
    nets = [load_file(folder / "lite.safetensors") for folder in (straight, resumed)]
    assert all(torch.equal(tensor, nets[1][name]) for name, tensor in nets[0].items())


def test_exported_weights_open_strictly_and_say_what_they_are(tmp_path):
    training = begun()
    train.run(training, clock(training, 1), tmp_path, workers=0, every=1000)
    path = tmp_path / "lite.safetensors"
    net = weights.load(lambda: Lite(RECIPE.net), path).float()
    assert net(torch.rand(1, 3, 9, 7), 3).shape == (1, 3, 27, 21)
    with safe_open(path, "pt") as stored:
        assert stored.metadata()["steps"] == "1"


def test_the_loss_falls():
    training = begun()
    for index in range(24):
        training.pool.add(index, *make_sample(SAMPLES, index))
    losses = [float(training.advance(0.0)) for _ in range(60)]
    assert np.mean(losses[-15:]) < np.mean(losses[:15])


def test_the_second_stage_sharpens():
    """On samples it has seen, the net of the second stage has more fine detail than the net it
    began with, and as much as asked for is not overshot wildly."""
    plain = begun()
    for index in range(24):
        plain.pool.add(index, *make_sample(SAMPLES, index))
    for _ in range(40):
        plain.advance(0.5)
    second = begun(CRISP)
    second.start_from(plain.state())
    second.pool = plain.pool
    small, large = plain.pool.draw(4, 16, 16, 0.0, torch.Generator().manual_seed(1))
    for _ in range(40):
        second.advance(0.5)
    with torch.no_grad():
        made = [t.net.enlarge(small, 4) for t in (plain, second)]
        detail = [float(bands(grey(p)).abs().mean()) for p in (*made, large)]
    assert detail[0] < detail[1] < 3 * detail[2]


def test_a_screen_door_is_no_detail():
    """A pattern that repeats with the small picture's pixels gives the fine bands that are wanted
    and is told from grain that has as much of them."""
    chance = torch.Generator().manual_seed(0)
    smooth = torch.full((2, 1, 96, 96), 0.5)
    grain, other = (0.1 * torch.randn(smooth.shape, generator=chance) for _ in range(2))
    tile = 0.1 * torch.randn((2, 1, 8, 8), generator=chance)
    truth, honest, door = (smooth + x for x in (grain, other, tile.repeat(1, 1, 12, 12)))
    assert energy_error(door, truth) < 0.6 * energy_error(smooth, truth)
    assert grid_error(door, truth, 4) > 4 * grid_error(honest, truth, 4)


def test_detail_moves_nothing_that_the_small_frame_tells():
    made = torch.rand((2, 1, 24, 36), generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.allclose(free(made, 3), made, atol=1e-6)
    (pull,) = torch.autograd.grad(bands(free(made, 3)).abs().sum(), made)
    assert pull.abs().max() > 0.1
    assert functional.avg_pool2d(pull, 3).abs().max() < 1e-6


def test_only_free_photographs_are_taken(tmp_path):
    rng = np.random.default_rng(0)
    pictures = {name: rng.integers(0, 255, (40, 60, 3), np.uint8) for name in ("a", "b", "c", "d")}
    stated = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: somebody
License: GPL-3+

Files: images/land/*
Copyright: somebody
License: CC-BY-SA-4.0

Files: images/land/a* images/land/b.jpg
 images/land/d.jpg
Copyright: nobody
License: public-domain
 In the public domain.
"""
    deb = tmp_path / "photos.deb"
    with io.BytesIO() as packed:
        with tarfile.open(fileobj=packed, mode="w:xz") as archive:
            files = {f"./usr/images/land/{n}.jpg": _jpeg(p) for n, p in pictures.items()}
            files["./usr/share/doc/photos/copyright"] = stated.encode()
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        data = packed.getvalue()
    with deb.open("wb") as file:
        file.write(b"!<arch>\n")
        for name, content in ((b"debian-binary", b"2.0\n\n"[:3]), (b"data.tar.xz", data)):
            size = str(len(content)).encode()
            file.write(
                name.ljust(48) + size.ljust(10) + b"`\n" + content + b"\n" * (len(content) % 2)
            )
    taken = list(photographs(deb, ("images/land/",)))
    assert [Path(name).stem for name, _, _ in taken] == ["a", "b", "d"]
    assert {licence for _, _, licence in taken} == {"public-domain"}
    for name, content, _ in taken:
        (tmp_path / Path(name).name).write_bytes(content)
    album = Album.of(tmp_path)
    cut = album.cut(np.random.default_rng(3), 96)
    assert cut.shape == (96, 96, 3)
    assert np.array_equal(cut, album.cut(np.random.default_rng(3), 96))


def _jpeg(picture):
    return cv2.imencode(".jpg", picture)[1].tobytes()


def test_plain_weights_begin_a_run(tmp_path):
    training = begun()
    train.run(training, clock(training, 2), tmp_path, workers=0, every=1000)
    again = begun()
    again.start_from(train.beginning(tmp_path / "lite.safetensors"))
    frames = torch.rand(1, 3, 12, 12)
    with torch.no_grad(), training.averaged_weights():
        error = (again.net.enlarge(frames, 2) - training.net.enlarge(frames, 2)).abs().max()
    assert error < 2e-3  # float16


def test_a_dead_trunk_stops_the_training():
    training = begun()
    for index in range(24):
        training.pool.add(index, *make_sample(SAMPLES, index))
    assert training.assert_alive() > 0.01
    with torch.no_grad():
        for block in training.net.blocks:
            block.conv.bias.fill_(-10)
    with pytest.raises(RuntimeError, match="trunk is dead"):
        training.assert_alive()


def test_workers_fill_the_pool_with_the_samples_of_their_index():
    pool = Pool(SAMPLES, 24, CPU)
    with Workers(SAMPLES, 1, start=6) as made:
        while not pool.ready(1):
            made.feed(pool, 8, wait=30)
        assert made.next > max(max(members) for members in pool.members.values())
    for scale, members in pool.members.items():
        assert min(members) >= 6
        small, large = make_sample(SAMPLES, members[0])
        assert np.array_equal(pool._small[scale][0].numpy(), small)
        assert np.array_equal(pool._large[scale][0].numpy(), large)


def test_settings_replace_numbers_of_the_recipe():
    recipe = train.recipe_from(["rate=5e-4", "net.depth=3", "samples.shares=1,0,2", "batch=7"])
    assert recipe.rate == 5e-4
    assert recipe.net.depth == 3
    assert recipe.samples.shares == (1.0, 0.0, 2.0)
    assert recipe.batch == 7
    with pytest.raises(AttributeError):
        train.recipe_from(["nothing=1"])


def test_fresh_net_is_nearly_bicubic():
    net = trainable(LiteConfig(width=8, depth=2))
    frames = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert (net.enlarge(frames, 2) - net._base(frames, 2)).abs().max() < 0.1
