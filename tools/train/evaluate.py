"""Evaluation with the judge: prompts of combinations that training never showed (and of some that it did), free rollouts, one
per prompt; the first five seconds, those from 15 to 20 s and the last five are judged.

    evaluate.py OUT --model FOLDER --judge FILE --run held:sink:60 --run seen:sink:5 ...

A run is SET:MEMORY:SECONDS, with the sets held, seen and several (two or three objects; only the world is judged), the memories of
`memories.py`, a MEMORY+lora with --lora FOLDER, teacher (the folder --teacher, 24 steps of the ODE, guidance 3, window of 21), or whole
(the same, but all frames of five seconds at once: what stage B learns from). --seed draws other prompts: choose with another seed than the
one that is reported."""
import argparse, json, math, os, time
import numpy as np
import torch
from common import *
import judge as judging
from judge import HEADS, FRAMES, STRIDE, said
import memories

ap = argparse.ArgumentParser()
ap.add_argument("out"); ap.add_argument("--model"); ap.add_argument("--judge"); ap.add_argument("--vae", help="another autoencoder")
ap.add_argument("--run", action="append", default=[]); ap.add_argument("--lora"); ap.add_argument("--teacher")
ap.add_argument("--prompts", type=int, default=200); ap.add_argument("--batch", type=int, default=200)
ap.add_argument("--seed", type=int, default=11); ap.add_argument("--name", help="of the results, before SET and a colon, for tables that hold several")
ap.add_argument("--euler", type=int, default=24); ap.add_argument("--scale", type=float, default=3.0, help="steps and guidance of the teacher")
ap.add_argument("--deadline", type=float, default=0, help="time of day at which no further run begins")
a = ap.parse_args()
dev = "cuda" if torch.cuda.is_available() else "cpu"
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
torch.backends.cudnn.benchmark = True
os.makedirs(a.out, exist_ok=True)
log = Log(f"{a.out}/log_evaluate.txt")
text = Text(dev)
while not os.path.exists(a.judge) and a.deadline and time.time() < a.deadline:
    time.sleep(.5)
judge, about = judging.load(a.judge, dev)
cast = lambda: torch.autocast(dev, torch.bfloat16, enabled=dev == "cuda")
rng = np.random.default_rng(a.seed)
sets = {"held": [world.draw_spec(rng, held=True, count=1) for _ in range(max(200, a.prompts))], "seen": [world.draw_spec(rng, count=1) for _ in range(max(200, a.prompts))]}
sets["several"] = [world.draw_spec(rng, count=2 + i % 2) for i in range(200)]
SHORT, TAIL, MIDDLE = 21, 25, 81


@torch.no_grad()
def rate(vae, lat, first):
    """Predicted labels [B, heads] of five seconds, the first of the latents or the last, some frames, and brightness, contrast and
    saturation [B,3]."""
    out, frames, seen, last = [], [], [], not first
    for z in lat.split(10):
        with cast():
            v = vae.decode(z).float().clamp(0, 1)
        v = (v[:, -FRAMES * STRIDE:] if last else v[:, :FRAMES * STRIDE])[:, ::STRIDE].contiguous()
        r = judge(v)
        out.append(torch.stack([r[h].argmax(1) for h in HEADS], 1))
        seen.append(judging.looks(v))
        frames.append(v[:, ::3].cpu())
    return torch.cat(out), torch.cat(frames), torch.cat(seen)


def whole(tf, text, x, steps, uncond, scale, **_):
    """All frames of x [B,F,16,h,w] at once, the ODE over `steps`."""
    for t, n in zip(steps, steps[1:] + [0.0]):
        tt = torch.full(x.shape[:2], t, device=x.device)
        v = tf.bidir(x, tt, uncond)
        x = x + (n - t) / 1000 * (v + scale * (tf.bidir(x, tt, text) - v))
    return x


path = f"{a.out}/evaluation.json"
result = json.load(open(path)) if os.path.exists(path) else {}
result.update({"judge on real clips": about["fresh"], "judge clips": about["clips"], "seed": a.seed})
for run in a.run:
    if a.deadline and time.time() > a.deadline:
        break
    name, kind, seconds = run.split(":")
    teach, lora = kind in ("teacher", "whole"), kind.endswith("+lora")
    frames = max(SHORT, math.ceil((float(seconds) * world.FPS + 3) / 4 / CHUNK) * CHUNK) if float(seconds) > 5 else SHORT
    tf, ck = memories.model(a.teacher if teach else a.model, "window" if teach else kind, dev, a.lora, frames)
    te, vae = UMT5(1280).to(dev).eval(), TAEHV().to(dev).to(memory_format=torch.channels_last).eval()
    te.load_state_dict(part(ck, "te.")); vae.load_state_dict(part(load_parts(a.vae, "vae") if a.vae else ck, "vae."))
    specs, ys, got, began = sets[name][:a.prompts], [], {}, time.time()
    for b in range(0, len(specs), a.batch):
        part_ = specs[b:b + a.batch]
        g = torch.Generator(device=dev).manual_seed(a.seed + b)
        with torch.no_grad(), cast():
            ids, n = text([world.sentence(s) for s in part_])
            noise = torch.randn(len(part_), frames, 16, world.H // 8, world.W // 8, device=dev, generator=g)
            ie, ne = text([""] * len(part_))
            how = dict(steps=shifted(a.euler), euler=True, uncond=tf.text(te(ie, ne), ne), scale=a.scale) if teach else {}
            lat = whole(tf, tf.text(te(ids, n), n), noise, **how) if kind == "whole" else rollout(tf, tf.text(te(ids, n), n), noise, generator=g, **how)
        ys.append(torch.tensor([said(s) for s in part_]))
        for when in ("first 5 s",) + (("15 to 20 s",) if frames > MIDDLE else ()) + (("last 5 s",) if frames > SHORT else ()):
            r, v, look = rate(vae, lat[:, :SHORT] if when[0] == "f" else lat[:, MIDDLE - TAIL:MIDDLE] if when[0] == "1" else lat[:, -TAIL:], when[0] == "f")
            got.setdefault(when, []).append((r.cpu(), look.cpu()))
            if b == 0:
                sheet(v[:10], f"{a.out}/sheet_{run.replace(':', '_').replace('+', '_')}_{when[0]}.png", n=7)
    y = torch.cat(ys)
    for when, rs in got.items():
        r, look = torch.cat([x[0] for x in rs]), torch.cat([x[1] for x in rs])
        result[f"{a.name}:{run}, {when}" if a.name else f"{run}, {when}"] = judging.verdict(y, r, look)
        hit = (r == y).float().mean(0)
        log(run, when, {k: round(100 * float(hit[i]), 1) for i, k in enumerate(HEADS)}, "%.0f s" % (time.time() - began))
    json.dump(result, open(path, "w"))
    del tf, lat
