"""Evaluation with the judge: prompts of combinations that training never showed (and of some that it did), free rollouts, one
per prompt; the first five seconds and the last five are judged.

    evaluate.py OUT --model FOLDER --judge FILE [--vae FOLDER] [--held 200] [--seen 200] [--seconds 60]"""
import argparse, json, math, os, time
import numpy as np
import torch
from common import *
from judge import Judge, HEADS, FRAMES, STRIDE, labels

ap = argparse.ArgumentParser()
ap.add_argument("out"); ap.add_argument("--model"); ap.add_argument("--judge"); ap.add_argument("--vae")
ap.add_argument("--held", type=int, default=200); ap.add_argument("--seen", type=int, default=200)
ap.add_argument("--seconds", type=float, default=60); ap.add_argument("--batch", type=int, default=100)
ap.add_argument("--seed", type=int, default=11)
ap.add_argument("--euler", type=int, default=0, help="instead of the four steps, this many of the ODE (an undistilled model)"); ap.add_argument("--scale", type=float, default=1.0, help="guidance")
ap.add_argument("--deadline", type=float, default=0, help="time of day at which no further batch begins")
a = ap.parse_args()
dev = "cuda" if torch.cuda.is_available() else "cpu"
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
os.makedirs(a.out, exist_ok=True)
log = Log(f"{a.out}/log_evaluate.txt")
rng = np.random.default_rng(a.seed)
text = Text(dev)
ck = load_parts(a.model) or load_model_folder(a.model)
tf, te, vae = Wan().to(dev).eval(), UMT5(1280).to(dev).eval(), TAEHV().to(dev).to(memory_format=torch.channels_last).eval()
tf.load_state_dict(part(ck, "tf.")); te.load_state_dict(part(ck, "te.")); vae.load_state_dict(part(load_parts(a.vae, "vae") if a.vae else ck, "vae."))
jd = torch.load(a.judge, map_location=dev)
judge = Judge().to(dev)
judge.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in jd["net"].items()})
judge.eval()
cast = lambda: torch.autocast(dev, torch.bfloat16, enabled=dev == "cuda")
groups = {"held out": [world.draw_spec(rng, held=True, count=1) for _ in range(a.held)], "seen": [world.draw_spec(rng, count=1) for _ in range(a.seen)]}
SHORT, TAIL = 21, 25


def wilson(k, n, z=1.96):
    p = k / n
    m, d = (p + z * z / (2 * n)) / (1 + z * z / n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return [round(100 * x, 1) for x in (p, m - d, m + d)]


@torch.no_grad()
def rate(lat, last):
    """Predicted labels [B, heads] of five seconds at the beginning or the end, and the frames."""
    out, frames = [], []
    for z in (lat[:, -TAIL:] if last else lat[:, :SHORT]).split(10):
        with cast():
            v = vae.decode(z).float().clamp(0, 1)
        v = (v[:, -FRAMES * STRIDE:] if last else v[:, :FRAMES * STRIDE])[:, ::STRIDE].contiguous()
        r = judge(v)
        out.append(torch.stack([r[h].argmax(1) for h in HEADS], 1))
        frames.append(v[:, ::3].cpu())
    return torch.cat(out), torch.cat(frames)


result = {"judge on real clips": jd["fresh"], "judge clips": jd["clips"], "steps": a.euler or len(STEPS), "guidance": a.scale, "seed": a.seed}
stop = False
for name, specs in groups.items():
    hits = {}
    for b in range(0, len(specs), a.batch):
        if a.deadline and time.time() > a.deadline:
            stop = True
            break
        part_ = specs[b:b + a.batch]
        frames = math.ceil((a.seconds * world.FPS + 3) / 4 / CHUNK) * CHUNK if name == "held out" else SHORT
        frames = max(frames, SHORT)
        g = torch.Generator(device=dev).manual_seed(a.seed + b)
        with torch.no_grad(), cast():
            ids, n = text([world.sentence(s) for s in part_])
            noise = torch.randn(len(part_), frames, 16, world.H // 8, world.W // 8, device=dev, generator=g)
            ie, ne = text([""] * len(part_))
            how = dict(steps=shifted(a.euler), euler=True) if a.euler else {}
            if a.scale != 1:
                how.update(uncond=tf.text(te(ie, ne), ne), scale=a.scale)
            lat = rollout(tf, tf.text(te(ids, n), n), noise, generator=g, **how)
        y = torch.tensor([labels(s) for s in part_], device=dev)
        for when, last in (("first 5 s", False),) + ((("last 5 s of %.0f s" % a.seconds, True),) if frames > SHORT else ()):
            r, v = rate(lat, last)
            hits.setdefault(when, []).append((r == y).cpu())
            if b == 0:
                sheet(v[:10], f"{a.out}/sheet_{name.replace(' ', '_')}_{'last' if last else 'first'}.png", n=7)
        log(name, b + len(part_))
    for when, h in hits.items():
        h = torch.cat(h)
        result[f"{name}, {when}"] = {"prompts": len(h), **{k: wilson(int(h[:, i].sum()), len(h)) for i, k in enumerate(HEADS)}}
    json.dump(result, open(f"{a.out}/evaluation.json", "w"), indent=1)
    if stop:
        break
log(json.dumps(result))
