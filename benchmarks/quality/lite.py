"""The built-in model against swscale's Lanczos and bicubic: how close each comes to the original.

    python -m benchmarks.quality.lite [FOLDER] [--faithful FILE] [--crisp FILE] [--crops FOLDER]

FOLDER holds clips; without it ../shared/clips beside the project is looked for, and if that does
not exist the clips are left out. scikit-image's stills are always measured, and sequences that
training/lite draws from a seed it was never trained on. Prints Markdown; the figures of record,
with machine and date, are in README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open

from benchmarks.quality import _pictures
from benchmarks.quality._metrics import Score, mean, score
from benchmarks.quality._pictures import STILLS, Film
from longtake.media.scaling import resample
from longtake.nets.lite import Lite, LiteConfig
from longtake.weights import checkpoint, files

ROOT = Path(__file__).resolve().parents[2]
CLIPS = ROOT.parent / "shared" / "clips"
CRF = 28
HEADS = "PSNR-Y dB", "PSNR-RGB dB", "SSIM", "GMSD", "sharpness", "flicker"
Method = Callable[[Film, int], Film]
Films = Callable[[int], dict[str, Film]]
"""Originals by name, of sides that a scale divides."""


def opened(weights: Path, dtype: str) -> Lite:
    with safe_open(weights, "pt") as stored:
        config = json.loads(stored.metadata()["config"])
    sizes = LiteConfig(width=config["width"], depth=config["depth"], scales=tuple(config["scales"]))
    return checkpoint.load(lambda: Lite(sizes), weights).float().trunk_to(getattr(torch, dtype))


def methods(faithful: Lite, crisp: Lite) -> dict[str, Method]:
    def by_swscale(kernel: str) -> Method:
        def enlarged(film: Film, scale: int) -> Film:
            height, width = film.shape[1:3]
            made: Film = resample(film, width * scale, height * scale, kernel)  # type: ignore[arg-type, assignment]
            return made

        return enlarged

    def by_net(net: Lite) -> Method:
        @torch.inference_mode()
        def enlarged(film: Film, scale: int) -> Film:
            made = [net(_pictures.floats(film[t : t + 1]) / 255, scale) for t in range(len(film))]
            return _pictures.pixels(torch.cat(made) * 255)

        return enlarged

    return {
        "bicubic": by_swscale("bicubic"),
        "Lanczos": by_swscale("lanczos"),
        "lite": by_net(faithful),
        "lite crisp": by_net(crisp),
    }


def measured(found: dict[str, Method], original: Film, small: Film, scale: int) -> dict[str, Score]:
    truth = _pictures.floats(original)
    return {
        name: score(_pictures.floats(method(small, scale)), truth) for name, method in found.items()
    }


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def figures(given: Score) -> list[str]:
    return [
        f"{given.psnr_y:.2f}",
        f"{given.psnr_rgb:.2f}",
        f"{given.ssim:.4f}",
        f"{given.gmsd:.4f}",
        f"{given.sharpness:.2f}",
        f"{given.flicker:.3f}",
    ]


def table(title: str, scores: dict[str, dict[str, Score]]) -> None:
    """Of {what: {method: score}}: the mean of each method, then lite's gain for each."""
    print(f"\n### {title}\n")
    names = list(next(iter(scores.values())))
    print(row([f"mean of {len(scores)}", *HEADS]))
    print("|" + "---|" * (len(HEADS) + 1))
    means = {name: mean([of[name] for of in scores.values()]) for name in names}
    for name in names:
        print(row([name, *figures(means[name])]))
    print()
    print(row(["PSNR-Y dB", *names, "lite - bicubic", "lite - Lanczos"]))
    print("|" + "---|" * (len(names) + 3))
    for what, of in [*scores.items(), ("mean", means)]:
        gains = [f"{of['lite'].psnr_y - of[name].psnr_y:+.2f}" for name in ("bicubic", "Lanczos")]
        print(row([what, *(f"{of[name].psnr_y:.2f}" for name in names), *gains]), flush=True)
    pairs = [(of["lite"], of["Lanczos"]) for of in scores.values()]
    better = {
        "PSNR-Y": sum(ours.psnr_y > theirs.psnr_y for ours, theirs in pairs),
        "SSIM": sum(ours.ssim > theirs.ssim for ours, theirs in pairs),
        "GMSD": sum(ours.gmsd < theirs.gmsd for ours, theirs in pairs),
        "flicker": sum(ours.flicker < theirs.flicker for ours, theirs in pairs),
    }
    counts = ", ".join(f"{name} {count}" for name, count in better.items())
    print(f"\nOf {len(pairs)} lite is better than Lanczos in: {counts}.", flush=True)


def crop(path: Path, films: list[Film]) -> None:
    """The middle 256 x 192 px of the middle frames side by side, each px as 2 x 2."""
    import cv2
    import numpy as np

    shown = []
    for film in films:
        picture = film[len(film) // 2]
        top, left = (picture.shape[0] - 192) // 2, (picture.shape[1] - 256) // 2
        shown.append(picture[top : top + 192, left : left + 256].repeat(2, 0).repeat(2, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(shown, axis=1)[..., ::-1])


def measure(found: dict[str, Method], what: str, films: Films, given: argparse.Namespace) -> bool:
    """Whether lite has more PSNR-Y than Lanczos on every film, clean and compressed, at x4."""
    better = True
    for scale in given.scales:
        originals = films(scale)
        for compression in ("clean", f"x264 crf {CRF}"):
            scores = {}
            for name, original in originals.items():
                small = _pictures.reduced(original, scale)
                if compression != "clean":
                    small = _pictures.compressed(small, CRF)
                scores[name] = measured(found, original, small, scale)
                if given.crops:
                    path = given.crops / f"{name}_x{scale}_{compression.replace(' ', '_')}.png"
                    shown = [found[n](small, scale) for n in ("Lanczos", "lite", "lite crisp")]
                    crop(path, [*shown, original])
            table(f"{what}, x{scale}, {compression}", scores)
            if scale == 4:
                gains = (of["lite"].psnr_y - of["Lanczos"].psnr_y for of in scores.values())
                better &= min(gains) > 0
    return better


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=CLIPS)
    for look in ("faithful", "crisp"):
        stored = files.shipped(f"lite_{look}.safetensors")
        parser.add_argument(f"--{look}", type=Path, default=stored, help="weights")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--scales", type=int, nargs="+", default=[4, 3, 2])
    parser.add_argument("--crops", type=Path, help="write PNGs: Lanczos, lite, crisp, original")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = methods(opened(given.faithful, given.dtype), opened(given.crisp, given.dtype))
    for scale in given.scales:
        scores = {}
        for name in STILLS:
            original = _pictures.still(name, 2 * scale)
            small = _pictures.reduced(original, scale)
            scores[name] = measured(found, original, small, scale)
        table(f"stills, x{scale}, clean", scores)
    measure(found, "drawn sequences", lambda scale: _pictures.drawn(given.frames, scale), given)
    clips = sorted(path for path in given.folder.glob("*") if path.suffix in (".mp4", ".mkv"))
    if not clips:
        print(f"\nNo clips in {given.folder}: skipped.")
        return
    better = measure(
        found,
        "clips",
        lambda scale: {c.stem: _pictures.original(c, given.frames, 2 * scale) for c in clips},
        given,
    )
    print(f"\nBetter than Lanczos on every clip, x4, PSNR-Y: {'yes' if better else 'NO'}")


if __name__ == "__main__":
    main()
