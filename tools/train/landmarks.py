"""The landmark test: a camera that pans around the whole panorama comes back to the same place; is it the same again?

A pan at s pixels a second is back after AROUND / s seconds. For each rollout the frames of the first visit are compared with
those of later times around one turn, shifted sideways a little either way, and the best agreement is kept (the model's own
speed is not known exactly). Objects move, so only the upper part of the columns away from the object's colour would be fair;
the score is therefore reported beside three others: real clips of the world (what a perfect memory gets), pairs of rollouts of
different prompts, and the same rollout half a turn later, where another place stands. Only what one turn has above half a turn is memory:
a land that looks the same everywhere has both.

With `--loop away` the camera swings out and returns instead (5 s a cycle), and only columns that were out of sight count (away.py).
With `--loop led` it is led by the world until it is on the way back.

    landmarks.py OUT.json --model FOLDER [--loop away|led] [--memory sink --memory sparse+lora ...] [--lora FOLDER] [--prompts 50]"""
import argparse, json, math, os, time
import numpy as np
import torch
import torch.nn.functional as F
from common import *
import away, memories

ap = argparse.ArgumentParser()
ap.add_argument("out"); ap.add_argument("--model"); ap.add_argument("--prompts", type=int, default=50)
ap.add_argument("--loop", choices=["turn", "away", "led"], default="turn"); ap.add_argument("--seconds", type=float, help="20.5, or 14.5 with away, 6 with led"); ap.add_argument("--memory", action="append", help="of memories.py"); ap.add_argument("--lora"); ap.add_argument("--batch", type=int, default=25); ap.add_argument("--seed", type=int, default=5)
ap.add_argument("--deadline", type=float, help="epoch seconds after which no further memory begins"); ap.add_argument("--pictures", help="with away and led: a folder for sheets of first views, turns and returns"); ap.add_argument("--half", action="store_true", help="bfloat16 on a CPU too")
a = ap.parse_args()
a.seconds = a.seconds or {"turn": 20.5, "away": 14.5, "led": 5.8}[a.loop]
dev = "cuda" if torch.cuda.is_available() else "cpu"
rng = np.random.default_rng(a.seed)
FAST, SLOW = 72.0, 56.0  # speeds of the world's pans, pixels a second
FIRST, STRIDE, SHIFT = 1.0, 4, 24


def psnr(x, y):
    return -10 * torch.log10((x - y).pow(2).mean((-1, -2, -3)).clamp(min=1e-8))


def best(now, later):
    """now [3,H,W], later [n,3,H,W] -> best PSNR over frames and sideways shifts."""
    top = -99.0
    for s in range(-SHIFT, SHIFT + 1, 4):
        a0, b0 = max(0, s), max(0, -s)
        n = now.shape[-1] - abs(s)
        top = max(top, psnr(now[..., a0:a0 + n], later[..., b0:b0 + n]).max().item())
    return top


def score(video, other=None, turns=1.0):
    """video [T,3,H,W] at 16 fps: agreement of the frame after one second with those of about so many turns later."""
    first = video[int(FIRST * world.FPS)]
    lo, hi = (int((FIRST + turns * world.AROUND / s) * world.FPS) for s in (FAST * 1.1, SLOW / 1.1))
    later = (video if other is None else other)[lo:hi + 1:STRIDE]
    return best(first, later) if len(later) else float("nan")


def summary(x):
    x = np.array(x)
    return {"n": len(x), "mean": round(float(x.mean()), 2), "ci95": round(float(1.96 * x.std(ddof=1) / math.sqrt(len(x))), 2) if len(x) > 1 else None,
            "values": [round(float(v), 2) for v in x]}


specs = []
while len(specs) < a.prompts:
    s = world.draw_spec(rng, count=1)
    if s["camera"] in ("left", "right") if a.loop == "turn" else s["camera"] == "away" and s["scene"] != "sea":  # waves move by themselves
        s["objects"][0].update(size="small", motion="stays")
        specs.append(s)
text = Text(dev)
frames = math.ceil((a.seconds * world.FPS + 3) / 4 / CHUNK) * CHUNK
P, _, _ = world.sample(rng, len(specs), specs)


def rollouts(kind, lead=None):
    """Batches of videos [B,T,3,H,W]; the same prompts and noise for every memory. lead [n,L,16,h,w]: the latents each begins with."""
    tf, ck = memories.model(a.model, kind, dev, a.lora, frames)
    te, vae = UMT5(1280).to(dev).eval(), TAEHV().to(dev).eval()
    te.load_state_dict(part(ck, "te.")); vae.load_state_dict(part(ck, "vae."))
    for b in range(0, len(specs), a.batch):
        prompts = [world.sentence(s) for s in specs[b:b + a.batch]]
        first = None if lead is None else lead[b:b + a.batch]
        made = frames if lead is None else frames - lead.shape[1]
        yield sample_video(tf, te, vae, text, prompts, made, dev, seed=a.seed + b, half=a.half or None, lead=first)[1].clamp(0, 1)


def late():
    return a.deadline and time.time() > a.deadline


def whole_turns():
    result = {"seconds": a.seconds}
    truth = [[score(v, turns=n) for n in (1, .5)] for v in (world.render(p[None].to(dev), 4 * frames - 3)[0].clamp(0, 1) for p in P)]
    result["the world itself"], result["the world itself, half a turn later"] = (summary(x) for x in zip(*truth))
    for kind in a.memory or ["sink"]:
        if late():
            break
        same, half, strangers = [], [], []
        for video in rollouts(kind):
            for v, w in zip(video, video.roll(1, 0)):
                same.append(score(v)); half.append(score(v, turns=.5)); strangers.append(score(v, w))
        result[kind] = {"one turn later": summary(same), "half a turn later": summary(half), "above half a turn": summary([a - b for a, b in zip(same, half)]),
                        "another prompt": summary(strangers)}
        print(kind, {k: {n: v[n] for n in ("n", "mean", "ci95")} for k, v in result[kind].items()}, flush=True)
        json.dump(result, open(a.out, "w"), indent=1)


def away_and_back():
    """Free rollouts; or, led, with the world's own frames until the camera is on its way back."""
    lead = camera = None
    if a.loop == "led":
        a.batch += a.batch % 2  # a clip and its twin belong in one batch
        Q = away.twins(P).to(dev)
        specs[:] = [s for s in specs for _ in range(2)]
        vae = TAEHV().to(dev).eval()
        vae.load_state_dict(part(load_parts(a.model) or load_model_folder(a.model), "vae."))
        k = torch.arange(frames, device=dev, dtype=torch.float32)[None] * away.STEP + (away.STRIDE - 1) / world.FPS  # the last frame of each latent
        camera = world.camera(Q, k)
        with torch.no_grad(), torch.autocast(dev, torch.bfloat16, enabled=dev == "cuda" or a.half):
            whole = torch.cat([vae.encode(world.render(q, 4 * frames)).float() for q in Q.split(2)])
            real = [torch.cat([vae.decode(z[None]).float()[:, ::away.STRIDE].clamp(0, 1) for z in p]) for p in whole.split(a.batch)]
        lead = whole[:, :away.LEAD]
    else:
        real = (world.render(p.to(dev), frames - 1, stride=away.STRIDE).clamp(0, 1) for p in P.split(4))
    result, rows = {"loop": a.loop, "seconds": a.seconds, "prompts": len(specs), "seed": a.seed}, {}

    def note(kind, batches, started):
        rows[kind], done = {}, 0
        for n, video in enumerate(batches):
            got, d, at = away.measure(video) if lead is None else away.led(video, camera[done:done + len(video)])
            done += len(video)
            if a.pictures:
                os.makedirs(a.pictures, exist_ok=True)
                away.pictures(video, d, at, f"{a.pictures}/{kind}-{n}.png")
            for visit, r in got.items():
                for k, v in r.items():
                    rows[kind].setdefault(visit, {}).setdefault(k, []).append(v)
        rows[kind] = {visit: {k: torch.cat(v).numpy() for k, v in r.items()} for visit, r in rows[kind].items()}
        result[kind] = away.report(rows[kind], rows.get("short") if kind not in ("short", "the world itself") else None)
        result[kind]["took"] = round(time.time() - started, 1)
        away.tell(kind, result[kind])
        json.dump(result, open(a.out, "w"), indent=1)

    note("the world itself", real, time.time())
    for kind in a.memory or ["short", "short-sink", "sparse", "sparse+lora"]:
        if late():
            break
        note(kind, (v[:, ::away.STRIDE] for v in rollouts(kind, lead)), time.time())


whole_turns() if a.loop == "turn" else away_and_back()
