"""A whole film through the command line, with a model of full size in a small machine's memory: 14B
in 8 bits, 1280x720x81, 8 GiB of VRAM, 16 GiB of RAM, blocks from the disk where they must be.

    python -m benchmarks.generation.film [FOLDER] [--model t2v-14b] [--matrices int8] [--steps 2]
                                         [--vram 8G] [--ram 16G] [--set size=1280x720 ...]

Weights are drawn from a seed into FOLDER where they are not there yet, as `longtake weights pull`
and `convert` leave them; the tokenizer is a small one. Prints the plan and what came of it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from benchmarks.generation._seeded import GiB, SeededBlocks, missing, nets, put_down
from longtake.core.blocks import slab
from longtake.nets import umt5_needs
from longtake.nets.wan.vae import VaeConfig, WanVae
from longtake.weights import manifest

WORDS = "a cat walks over the wet grass of a garden in the evening light"


def folder_of(root: Path, model: str, matrices: str, device: str) -> Path:
    folder = root / f"Wan2.1-{model.upper()}"
    conditioner, transformer = nets(model, device, matrices=matrices)
    put_down(
        folder / "transformer", f"wan-{model}", "transformer", transformer.config,
        transformer.block_source, conditioner.state_dict(), matrices,
    )  # fmt: skip
    text = umt5_needs.XXL
    found: list[tuple[str, str, tuple[int, ...]]] = []
    for key, shape in umt5_needs.block_tensors(text).items():
        if umt5_needs.matrix(key, shape):
            found += [(key, matrices, shape), (f"{key}_scale", "float32", shape[:1])]
        else:
            found.append((key, "bfloat16", shape))
    rest = {
        key: torch.randn(shape, dtype=torch.bfloat16, device=device).cpu()
        for key, shape in umt5_needs.rest_tensors(text).items()
    }
    source = SeededBlocks(slab(found), text.layers, device)
    put_down(folder / "text", f"wan-{model}", "text", text, source, rest, matrices)
    if not (folder / "Wan2.1_VAE.safetensors").exists():
        torch.manual_seed(0)
        save_file(WanVae(VaeConfig()).state_dict(), folder / "Wan2.1_VAE.safetensors")
    _tokenizer(folder, model)
    return folder


def _tokenizer(folder: Path, model: str) -> None:
    (folder / "google/umt5-xxl").mkdir(parents=True, exist_ok=True)
    pieces = [(letter, -5.0) for letter in "abcdefghijklmnopqrstuvwxyz▁"]
    pieces += [(f"▁{word}", -2.0) for word in sorted(set(WORDS.split()) - {"a"})]
    rules = Tokenizer(
        models.Unigram([("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), *pieces], unk_id=2)
    )
    rules.add_special_tokens(["<pad>", "</s>", "<unk>"])
    rules.pre_tokenizer = pre_tokenizers.Metaspace()
    rules.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    for name in ("spiece.model", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / "google/umt5-xxl" / name).write_text("{}")
    rules.save(str(folder / "google/umt5-xxl/tokenizer.json"))
    for path in (folder / "google/umt5-xxl").iterdir():
        entry = manifest.Entry(
            model=f"wan-{model}", role="tokenizer", sha256=manifest.sha256(path), bytes=0,
            mtime_ns=0, source="a benchmark", trusted="first use",
        )  # fmt: skip
        name = f"google/umt5-xxl/{path.name}"
        manifest.add(folder, name, manifest.stamped(entry, path))


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("folder", nargs="?", type=Path, default=Path("build/generation"))
    words.add_argument("--model", default="t2v-14b")
    words.add_argument("--matrices", default="int8")
    words.add_argument("--device", default="cuda:0")
    words.add_argument("--steps", type=int, default=2)
    words.add_argument("--vram", default="8G")
    words.add_argument("--ram", default="16G")
    words.add_argument("--set", nargs="*", default=["size=1280x720", "vae_dtype=bfloat16"])
    words.add_argument("--place", nargs="*", default=[])
    given = words.parse_args()
    if missing(given.device):
        return
    folder = folder_of(given.folder, given.model, given.matrices, given.device)
    torch.cuda.empty_cache()
    target = given.folder / "film.mkv"
    job = [
        "--prompt", WORDS, str(target), "--codec", "ffv1", "--devices", given.device,
        "--vram", given.vram, "--ram", given.ram, "--set", f"model={given.model}",
        f"folder={folder}", f"steps={given.steps}", *given.set,
        *(["--place", *given.place] if given.place else []),
    ]  # fmt: skip
    command = [sys.executable, "-m", "longtake"]
    subprocess.run([*command, "plan", "generate", *job, "--explain"], check=False)
    began = time.perf_counter()
    made = subprocess.run(
        [*command, "generate", *job, "--restart", "--json"], stdout=subprocess.PIPE, text=True,
        check=False,
    )  # fmt: skip
    print(f"exit code {made.returncode} after {time.perf_counter() - began:.1f} s")
    for line in made.stdout.splitlines():
        event = json.loads(line)
        if event["event"] not in ("planned",):
            print(json.dumps(event)[:1500])
    if target.exists():
        print(f"{target.stat().st_size / GiB:.3f} GiB")
        subprocess.run([*command, "probe", str(target)], check=False)


if __name__ == "__main__":
    main()
