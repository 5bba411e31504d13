#!/usr/bin/env python3
"""Times PyTorch and generate-video on the same shapes, in alternation, and prints the ratios.

Two blocks of Wan 2.1 1.3B's geometry at 832x480 (4680 query tokens) with random weights, without history and with 18
latent frames of it, and the decoder of Wan 2.1 at the same size (the first two latent frames of a stream, 5 frames). PyTorch
runs diffusers' WanTransformer3DModel and AutoencoderKLWan; with history, the same blocks in a loop with a key/value cache and scaled_dot_product_attention, since
diffusers has none. Both sides use the same threads, and each row is measured in rounds: one side, then the other.

Besides the clock it reads the processor's seconds, which do not count the time that other programs took: on a machine that
is not quiet, believe the ratio of those.

    tools/bench_pytorch.py                     every row
    tools/bench_pytorch.py --rows forward      one row
    tools/bench_pytorch.py --check tools/bench-thresholds.json --short     what CI does
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import torch

FRAMES, HISTORY, HEIGHT, WIDTH = 3, 18, 60, 104
TOKENS_PER_FRAME = HEIGHT * WIDTH // 4


def clocks():
    return time.perf_counter(), time.process_time()


def seconds(body, repeats):
    """Median wall and processor seconds of a call, the first call not counted."""
    body()
    wall, processor = [], []
    for _ in range(repeats):
        start = clocks()
        body()
        end = clocks()
        wall.append(end[0] - start[0])
        processor.append(end[1] - start[1])
    return statistics.median(wall), statistics.median(processor)


class CachedBlocks:
    """The blocks of a diffusers WanTransformer3DModel with a key/value cache, written out for speed."""

    def __init__(self, model, history):
        self.model = model
        self.past = history * TOKENS_PER_FRAME
        c = model.config
        self.heads, self.dim = c.num_attention_heads, c.attention_head_dim
        tokens = self.past + FRAMES * TOKENS_PER_FRAME
        shape = (1, self.heads, tokens, self.dim)
        dtype = model.dtype
        self.cache = [(torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)) for _ in model.blocks]
        # The rotation of the current frames: interleaved pairs, axes (44, 42, 42) of 128 channels.
        angles = []
        widths = (self.dim - 4 * (self.dim // 6), 2 * (self.dim // 6), 2 * (self.dim // 6))
        grid = torch.meshgrid(
            torch.arange(history, history + FRAMES), torch.arange(HEIGHT // 2), torch.arange(WIDTH // 2), indexing="ij")
        for axis, n in zip(grid, widths):
            rate = 10000.0 ** (-torch.arange(0, n, 2, dtype=torch.float64) / n)
            angles.append(axis.reshape(-1, 1).double() * rate)
        angle = torch.cat(angles, 1).float()
        self.cos, self.sin = angle.cos()[None, :, None], angle.sin()[None, :, None]

    def rotate(self, x):
        x = x.unflatten(-1, (-1, 2)).float()
        a, b = x.unbind(-1)
        return torch.stack((a * self.cos - b * self.sin, a * self.sin + b * self.cos), -1).flatten(-2)

    def attend(self, q, k, v):
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return out.transpose(1, 2).flatten(2)

    def split(self, x):
        return x.unflatten(2, (self.heads, self.dim))

    @torch.no_grad()
    def forward(self, x, text, modulation):
        for block, (keys, values) in zip(self.model.blocks, self.cache):
            rows = (block.scale_shift_table + modulation.float()).chunk(6, dim=1)
            a = (block.norm1(x.float()) * (1 + rows[1]) + rows[0]).type_as(x)
            attention = block.attn1
            q = self.rotate(self.split(attention.norm_q(attention.to_q(a)))).type_as(x).transpose(1, 2)
            k = self.rotate(self.split(attention.norm_k(attention.to_k(a)))).type_as(x).transpose(1, 2)
            keys[:, :, self.past:] = k
            values[:, :, self.past:] = self.split(attention.to_v(a)).transpose(1, 2)
            seen = attention.to_out[0](self.attend(q, keys, values))
            x = (x.float() + seen * rows[2]).type_as(x)
            attention = block.attn2
            b = block.norm2(x.float()).type_as(x)
            q = self.split(attention.norm_q(attention.to_q(b))).transpose(1, 2)
            k = self.split(attention.norm_k(attention.to_k(text))).transpose(1, 2)
            v = self.split(attention.to_v(text)).transpose(1, 2)
            x = x + attention.to_out[0](self.attend(q, k, v))
            c = (block.norm3(x.float()) * (1 + rows[4]) + rows[3]).type_as(x)
            x = (x.float() + block.ffn(c).float() * rows[5]).type_as(x)
        return x


class Bench:
    def __init__(self, options):
        self.options = options
        torch.set_num_threads(options.threads)
        torch.manual_seed(0)
        self.folder = tempfile.TemporaryDirectory()
        self.results = []

    def transformer(self, dtype):
        from diffusers import WanTransformer3DModel

        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = WanTransformer3DModel(
                num_attention_heads=12, attention_head_dim=128, ffn_dim=8960, num_layers=2, freq_dim=256, text_dim=4096)
        return model.eval().to(dtype)

    def ours(self, *arguments, precision="bf16"):
        """Runs `generate-video bench` on the folder; the parsed answer and the peak memory of the process."""
        command = [
            self.options.program, "bench", "--json", "--model", self.folder.name, "--threads", str(self.options.threads),
            "--precision", precision, "--repeats", str(self.options.repeats), *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr.strip()}")
        answer = json.loads(done.stdout)
        return answer.get("operations") or answer

    def row(self, name, mine, theirs):
        """Alternates the two sides; each gives (wall seconds, processor seconds)."""
        self.alternated(name, [(theirs(), mine()) for _ in range(self.options.rounds)])
        return self.results[-1]

    def alternated(self, name, pairs):
        """Adds and prints a row from pairs of (PyTorch, longtake), each (wall seconds, processor seconds)."""
        torch_wall, torch_processor, wall, processor = (
            statistics.median(p[side][i] for p in pairs) for side in (0, 1) for i in (0, 1))
        result = {
            "row": name, "pytorch_seconds": torch_wall, "longtake_seconds": wall,
            "ratio": statistics.median(p[0][0] / p[1][0] for p in pairs),
            "pytorch_processor_seconds": torch_processor, "longtake_processor_seconds": processor,
            "processor_ratio": statistics.median(p[0][1] / p[1][1] for p in pairs)}
        self.results.append(result)
        print(f"{name:44} PyTorch {torch_wall:8.3f} s  longtake {wall:8.3f} s  {result['ratio']:5.2f}x"
              f"   of the processor {torch_processor:8.3f} s {processor:8.3f} s {result['processor_ratio']:5.2f}x", flush=True)
        return result

    def saved(self, model):
        model.save_pretrained(self.folder.name + "/transformer")

    def pass_of(self, answer):
        """Of the last chunk, whose memory is fullest."""
        row = [r for r in answer["rows"] if r["name"].startswith("pass, ")][-1]
        return row["seconds"], row["processor_seconds"]

    def inputs(self, dtype):
        return (torch.randn(1, 16, FRAMES, HEIGHT, WIDTH).to(dtype), torch.randn(1, 512, 4096).to(dtype))

    def forward(self):
        """One forward without history, dense, against diffusers in the same precision."""
        for precision, dtype in [("bf16", torch.bfloat16)] + ([] if self.options.short else [("f32", torch.float32)]):
            model = self.transformer(dtype)
            self.saved(model)
            latents, text = self.inputs(dtype)

            @torch.no_grad()
            def theirs():
                return seconds(
                    lambda: model(latents, timestep=torch.tensor([625.0]), encoder_hidden_states=text, return_dict=False),
                    self.options.repeats)

            self.row(
                f"forward, no history, dense {precision}",
                lambda: self.pass_of(
                    self.ours("--only", "passes", "--num-frames", "9", "--sparsity", "dense", precision=precision)),
                theirs)

    def history(self):
        """The same with 18 frames of history: PyTorch dense against each recipe here."""
        model = self.transformer(torch.bfloat16)
        self.saved(model)
        blocks = CachedBlocks(model, HISTORY)
        x = torch.randn(1, FRAMES * TOKENS_PER_FRAME, 1536).bfloat16()
        text, modulation = torch.randn(1, 512, 1536).bfloat16(), torch.randn(1, 6, 1536).bfloat16()
        wanted = [
            (recipe, precision)
            for recipe, precision in [
                ("dense", "bf16"), ("sparse-forcing", "bf16"), ("light-forcing", "bf16"), ("light-forcing", "int8")]
            if not self.options.recipes or recipe in self.options.recipes.split(",")]
        # PyTorch is measured once in each round, then every recipe.
        theirs, mine = [], {choice: [] for choice in wanted}
        for _ in range(self.options.rounds):
            theirs.append(seconds(lambda: blocks.forward(x, text, modulation), self.options.repeats))
            for recipe, precision in wanted:
                pages = ["--kv", "int8"] if precision == "int8" else []
                mine[recipe, precision].append(self.pass_of(self.ours(
                    "--only", "passes", "--num-frames", "81", "--sparsity", recipe, *pages, precision=precision)))
        for recipe, precision in wanted:
            self.alternated(
                f"forward, 18 frames of history, {recipe} {precision}", list(zip(theirs, mine[recipe, precision])))

    def decode(self):
        """Wan's decoder from the beginning of a stream: two latent frames, of which the first makes one frame, once."""
        from diffusers import AutoencoderKLWan

        self.saved(self.transformer(torch.bfloat16))
        vae = AutoencoderKLWan().eval().to(torch.bfloat16)
        vae.save_pretrained(self.folder.name + "/vae")
        peaks, others = [], []

        def mine():
            answer = self.ours("--only", "start", "--num-frames", "9", "--size", self.options.decode_size)
            row = next(r for r in answer["rows"] if r["name"].startswith("decode"))
            peaks.append(answer["peak_bytes"])
            return row["seconds"], row["processor_seconds"]

        def theirs():
            # In a process of its own, whose peak memory is the decoder's.
            done = subprocess.run(
                [sys.executable, __file__, "--decode-only", self.folder.name, "--threads", str(self.options.threads),
                 "--decode-size", self.options.decode_size], capture_output=True, text=True, check=True)
            answer = json.loads(done.stdout.splitlines()[-1])
            others.append(answer["peak_bytes"])
            return answer["seconds"], answer["processor_seconds"]

        result = self.row(f"decode of Wan 2.1 at {self.options.decode_size}, bf16, 5 frames", mine, theirs)
        result["pytorch_peak_bytes"], result["longtake_peak_bytes"] = max(others), max(peaks)
        result["memory_ratio"] = max(others) / max(peaks)
        print(f"{'':44} peak memory: PyTorch {max(others) / 1e6:.0f} MB, longtake {max(peaks) / 1e6:.0f} MB, "
              f"{result['memory_ratio']:.2f}x")


def decode_only(options):
    """Times diffusers' decoder alone and prints one JSON object."""
    from diffusers import AutoencoderKLWan

    torch.set_num_threads(options.threads)
    vae = AutoencoderKLWan.from_pretrained(options.decode_only + "/vae", torch_dtype=torch.bfloat16).eval()
    width, height = (int(side) // 8 for side in options.decode_size.split("x"))
    latents = torch.randn(1, 16, 2, height, width).bfloat16()
    with torch.no_grad():
        start = clocks()
        vae.decode(latents, return_dict=False)
        wall, processor = (end - begin for end, begin in zip(clocks(), start))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": wall, "processor_seconds": processor, "peak_bytes": peak}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="forward,history,decode", help="of forward, history, decode")
    parser.add_argument("--rounds", type=int, default=3, help="alternations of each row")
    parser.add_argument("--repeats", type=int, default=1, help="runs of a side in each round, after one that is not counted")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--program", default=os.path.join(os.path.dirname(__file__), "../.build/release/generate-video"))
    parser.add_argument("--recipes", help="of the row history: recipes, separated by commas (default: all)")
    parser.add_argument("--short", action="store_true", help="bf16 without history only, one round")
    parser.add_argument("--decode-size", default="832x480", help="pixels of the decoder's row; minutes at the full size")
    parser.add_argument("--json", help="write the results here")
    parser.add_argument("--check", help="a file of least ratios; exit status 1 if one is missed")
    parser.add_argument("--decode-only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.decode_only:
        return decode_only(options)
    if options.short:
        options.rows, options.rounds = "forward", 1
    bench = Bench(options)
    for name in options.rows.split(","):
        if name not in ("forward", "history", "decode"):
            parser.error(f"--rows {name} is not known; there are forward, history, decode")
        getattr(bench, name)()
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"threads": options.threads, "torch": torch.__version__, "rows": bench.results}, file, indent=2)
    if options.check:
        least = json.load(open(options.check))["pytorch_processor_ratio"]
        missed = [r for r in bench.results if r["processor_ratio"] < least.get(r["row"], 0)]
        for r in missed:
            print(f"{r['row']}: {r['processor_ratio']:.2f}x, wanted at least {least[r['row']]}x", file=sys.stderr)
        sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
