"""Contact sheets of a model, by the training code (a slow stand-in for the engine).
usage: sample.py MODEL_OR_CKPT SHEET.png [--frames 21] [--seed 0] [--euler N --scale S] [--columns 8] [--prompts FILE]
    [--memory short]   one of memories.py"""
import argparse
import torch
from common import *
import memories

ap = argparse.ArgumentParser()
ap.add_argument("model"); ap.add_argument("sheet")
ap.add_argument("--frames", type=int, default=21); ap.add_argument("--seed", type=int, default=0)
ap.add_argument("--euler", type=int, default=0); ap.add_argument("--scale", type=float, default=1.0)
ap.add_argument("--columns", type=int, default=8); ap.add_argument("--prompts", help="a file, one prompt a line"); ap.add_argument("--memory", default="short")
a = ap.parse_args()
dev = "cuda" if torch.cuda.is_available() else "cpu"
tf, ck = memories.model(a.model, a.memory, dev, frames=a.frames)
te, vae = UMT5(1280).to(dev).eval(), TAEHV().to(dev).eval()
te.load_state_dict(part(ck, "te.")); vae.load_state_dict(part(ck, "vae."))
prompts = open(a.prompts).read().splitlines() if a.prompts else TEST_PROMPTS
kw = dict(steps=shifted(a.euler), euler=True, scale=a.scale) if a.euler else {}
_, v = sample_video(tf, te, vae, Text(dev), prompts, a.frames, dev, seed=a.seed, **kw)
sheet(v, a.sheet, n=a.columns)
