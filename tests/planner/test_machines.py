"""Machines that are not here, and what the README says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.flashvsr import fits
from longtake.cli.main import _main
from longtake.core.errors import BadInput, Usage
from longtake.core.plan import Plan
from longtake.planner import machines
from tests.media import films

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_readme_s_table_is_the_planner_s(page) -> None:
    text = (ROOT / page).read_text()
    table = text.partition("<!-- fits: begin -->\n")[2].partition("\n<!-- fits: end -->")[0]
    assert table == fits.table()


def test_what_must_fit_does() -> None:
    """1080p on 8 GiB and 2160p on 16 GiB, by placement alone: the recipe is that of a large GPU."""
    for height, vram in ((1080, 8), (2160, 16)):
        small, large = (fits.planned("tiny", height, gib) for gib in (vram, 80))
        assert small.identity == large.identity
        assert small.memory.vram < vram * fits.GiB < large.memory.vram


@pytest.mark.parametrize("name", machines.names())
def test_shipped_machines(name) -> None:
    machine = machines.described(name)
    (gpu,) = machine.gpus
    assert gpu.free < gpu.vram
    assert machine.free_ram < machine.ram


def test_a_machine_from_a_file(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("ram = 16\ncores = 4\n")
    assert machines.described(str(path)).gpus == ()
    for text, words in (
        ("cores = 4", "ram"),
        ("ram = 16\ncores = 4\nvrams = 8", "vrams"),
        ("ram = 0\ncores = 4", "above 0"),
        ("ram = ", "mine.toml"),
    ):
        path.write_text(text)
        with pytest.raises(BadInput, match=words):
            machines.described(str(path))
    with pytest.raises(Usage, match="rtx-4090-24gb"):
        machines.described("rtx-9090")


def test_a_plan_without_gpu_and_weights(tmp_path, monkeypatch, capsys) -> None:
    """It says what is missing; the job itself is refused for that."""
    monkeypatch.setenv("LONGTAKE_WEIGHTS", str(tmp_path))
    source = films.make(tmp_path / "in.mp4", frames=2, size=(960, 540))
    words = [str(source), str(tmp_path / "out.mp4"), "--engine", "flashvsr", "--height", "1080"]
    assert _main(["plan", "upscale", *words, "--json", "--machine", "rtx-4060-8gb"]) == 0
    plan = Plan.from_json(capsys.readouterr().out)
    assert plan.placement.devices == ("cuda:0",)
    assert plan.memory.vram < 8 * machines.GiB
    assert any("longtake weights pull flashvsr-v1.1" in note for note in plan.notes)
    assert _main(["upscale", *words]) == 2
    assert "longtake weights pull flashvsr-v1.1" in capsys.readouterr().err
