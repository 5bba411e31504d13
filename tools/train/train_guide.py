"""The classifier of noisy latents for stage B by itself, on clips as long as stage B judges.

    train_guide.py OUT SECONDS --vae FOLDER [--frames 21] [--deadline T]

Clips of the world are drawn, encoded and kept in a pool that is renewed all the time. Writes OUT/guide.part* and OUT/guide.done."""
import argparse, glob, math, os, time
import numpy as np
import torch
from common import *
from guide import Guide
import guide
from judge import HEADS, said

ap = argparse.ArgumentParser()
ap.add_argument("out"); ap.add_argument("seconds", type=float); ap.add_argument("--vae"); ap.add_argument("--frames", type=int, default=21)
ap.add_argument("--pool", type=int, default=8192); ap.add_argument("--fill", type=float, default=12); ap.add_argument("--batch", type=int, default=64)
ap.add_argument("--init", help="folder with guide.part*"); ap.add_argument("--deadline", type=float, default=0)
a = ap.parse_args()
dev = "cuda" if torch.cuda.is_available() else "cpu"
tiny = dev == "cpu"
torch.backends.cudnn.benchmark = True
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
os.makedirs(a.out, exist_ok=True)
log = Log(f"{a.out}/log_guide.txt")
seed = int(time.time())
torch.manual_seed(seed)
rng = np.random.default_rng(seed)
vae = TAEHV().to(dev).eval().requires_grad_(False).to(memory_format=torch.channels_last)
ck = load_parts(a.vae) if glob.glob(f"{a.vae}/ckpt.part0") else load_model_folder(a.vae)
vae.load_state_dict(part(ck, "vae."))
net = Guide().to(dev).to(memory_format=torch.channels_last)
if a.init:
    net.load_state_dict({k: v.float() for k, v in load_parts(a.init, "guide").items()})
opt = torch.optim.AdamW(net.parameters(), lr=1e-3, betas=(.9, .99), weight_decay=.02, fused=not tiny)
ema = EMA(net, .999)
encode = vae.encode
if not tiny:
    world.compile_renderer()
    encode = torch.compile(vae.encode, dynamic=False)
cast = lambda: torch.autocast(dev, torch.bfloat16, enabled=not tiny)
LONG, G, N, B = (12, 1, 4, 2) if tiny else (24, 4, a.pool, a.batch)
SEEN = min(a.frames, LONG)
pool = torch.empty(N, LONG, 16, world.H // 8, world.W // 8, dtype=torch.bfloat16, device=dev)
labels = torch.zeros(N, len(HEADS), dtype=torch.long, device=dev)
filled, put = 0, 0


@torch.no_grad()
def refresh():
    global filled, put
    P, _, specs = world.sample(rng, G, [world.draw_spec(rng, held=bool(rng.random() < .1), count=1 if rng.random() < .8 else None) for _ in range(G)])
    v = world.render(P.to(dev, non_blocking=True), 4 * LONG, start=torch.from_numpy(rng.uniform(0, 20, G)))
    with cast():
        pool[put:put + G] = encode(v.contiguous()).to(torch.bfloat16)
    labels[put:put + G] = torch.tensor([said(s) for s in specs]).to(dev, non_blocking=True)
    put = (put + G) % (N // G * G)
    filled = min(N // G * G, filled + G)


begin = time.time()
refresh()
t0 = time.time()
log("compiled after %.0f s" % (t0 - begin))
while filled < N // G * G and time.time() - t0 < a.fill:
    refresh()
    if not tiny:
        torch.cuda.synchronize()
log("pool of", filled)
t0, step, hist = time.time(), 0, []
end = a.deadline or t0 + a.seconds
while time.time() < end and not (tiny and step >= 3):
    p = (time.time() - t0) / max(1e-3, end - t0)
    opt.param_groups[0]["lr"] = 1.2e-3 * min(1, (step + 1) / 100) * (.01 + .99 * (.5 + .5 * math.cos(math.pi * p)))
    if step % 3 == 0:
        refresh()
    k = torch.randint(0, filled, (B,), device=dev)
    o = torch.randint(0, LONG - SEEN + 1, (B, 1), device=dev) + torch.arange(SEEN, device=dev)
    lv = torch.rand(B, device=dev) * .8
    with cast():
        logits = net(guide.noisy(pool[k[:, None], o].float(), lv), lv)
        l = guide.loss(logits, labels[k]).sum()
    opt.zero_grad(set_to_none=True)
    l.backward()
    clip_gpu(list(net.parameters()), 5.0)
    opt.step(); ema.step()
    hist.append(guide.right(logits, labels[k]))
    step += 1
    if step % (1 if tiny else 500) == 0:
        log("step", step, "pool", filled, {h: round(100 * float(v), 1) for h, v in zip(HEADS, torch.stack(hist).mean(0))}, "%.0f s" % (time.time() - t0)); hist = []
net.load_state_dict({**net.state_dict(), **ema.state()})
net.eval()
with torch.no_grad(), cast():  # on new clips, by level of noise
    for lv in (0., .3, .6, .8):
        rs = []
        for _ in range(1 if tiny else 6):
            put = 0
            for _ in range(B // G):
                refresh()
            y, z = labels[:B // G * G], pool[:B // G * G, :SEEN].float()
            s = torch.full((len(z),), lv, device=dev)
            rs.append(guide.right(net(guide.noisy(z, s), s), y))
        log("new clips at level", lv, {h: round(100 * float(v), 1) for h, v in zip(HEADS, torch.stack(rs).mean(0))})
save_parts({k: v.half() for k, v in net.state_dict().items()}, a.out, "guide")
open(f"{a.out}/guide.done", "w").close()
log("done, steps", step)
