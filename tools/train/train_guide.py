"""The classifier of noisy latents for stage B, on clips as long as stage B judges and ever new ones.

    clips.py POOL --vae FOLDER &          (one per card)
    train_guide.py OUT SECONDS --clips POOL [--frames 21] [--views 8] [--deadline T]

A clip is seen at most about --views times, each time with fresh noise, another window and another shift of the picture, and then
replaced; when the clips do not come fast enough, the training waits. Before a clip joins the pool the classifier has to name it: what
is logged as `new`. Writes OUT/guide.part* and OUT/guide.done, and POOL/stop for the makers of clips."""
import argparse, glob, math, os, time
import torch
import torch.nn.functional as F
from common import *
from guide import Guide
import guide
from judge import HEADS

ap = argparse.ArgumentParser()
ap.add_argument("out"); ap.add_argument("seconds", type=float); ap.add_argument("--clips"); ap.add_argument("--frames", type=int, default=21)
ap.add_argument("--pool", type=int, default=6144); ap.add_argument("--views", type=float, default=8); ap.add_argument("--batch", type=int, default=64)
ap.add_argument("--arriving", type=int, default=32, help="clips of a file, for compilation")
ap.add_argument("--lr", type=float, default=1.2e-3)
ap.add_argument("--init", help="folder with guide.part*"); ap.add_argument("--deadline", type=float, default=0)
a = ap.parse_args()
dev = "cuda" if torch.cuda.is_available() else "cpu"
tiny = dev == "cpu"
torch.backends.cudnn.benchmark = True
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
os.makedirs(a.out, exist_ok=True); os.makedirs(a.clips, exist_ok=True)
log = Log(f"{a.out}/log_guide.txt")
torch.manual_seed(int(time.time()))
net = Guide().to(dev)
net.body = net.body.to(memory_format=torch.channels_last)
if a.init:
    net.load_state_dict({k: v.float() for k, v in load_parts(a.init, "guide").items()})
decay = [p for p in net.parameters() if p.dim() > 1]
opt = torch.optim.AdamW([{"params": decay, "weight_decay": .05}, {"params": [p for p in net.parameters() if p.dim() <= 1], "weight_decay": 0.}],
                        lr=a.lr, betas=(.9, .99), fused=not tiny)
ema = EMA(net, .995)
log("parameters", sum(p.numel() for p in net.parameters()))
cast = lambda: torch.autocast(dev, torch.bfloat16, enabled=not tiny)
N, B = (8, 2) if tiny else (a.pool, a.batch)
pool = labels = None
LEVELS = (0., .3, .6)
received, filled, put, steps, waited = 0, 0, 0, 0, 0.0
new, known = {l: [] for l in LEVELS}, []


see = net
if not tiny:  # compiled while the makers of clips compile; if that fails, as it is
    try:
        see = torch.compile(net, dynamic=False)
        for mode, n in ((True, B), (False, a.arriving)):
            net.train(mode)
            lv = torch.rand(n, device=dev)
            with cast(), torch.set_grad_enabled(mode):
                out = see(torch.randn(n, a.frames, 16, world.H // 8, world.W // 8, device=dev), lv)
                if mode:
                    sum(z.float().sum() for z in out.values()).backward()
        opt.zero_grad(set_to_none=True)
        log("compiled")
    except Exception as e:
        log("not compiled:", repr(e)[:300])
        see = net
net.train()


def arrivals(limit=4):
    """Clips that have come, as (latents, labels)."""
    out = []
    for f in sorted(glob.glob(f"{a.clips}/*.clips"), key=os.path.getmtime)[:limit]:
        z, y, *_ = torch.load(f)
        os.remove(f)
        out.append((z.to(dev), y.to(dev)))
    return out


@torch.no_grad()
def name(z, y, level):
    net.eval()
    n = min(a.frames, z.shape[1])
    o = int(torch.randint(0, z.shape[1] - n + 1, ()))
    s = torch.full((len(z),), level, device=dev)
    with cast():
        r = guide.right(see(guide.noisy(z[:, o:o + n].float(), s), s), y)
    net.train()
    return r


def take():
    global pool, labels, received, filled, put
    for z, y in arrivals():
        if pool is None:
            pool, labels = torch.zeros(N, *z.shape[1:], dtype=torch.bfloat16, device=dev), torch.zeros(N, len(HEADS), dtype=torch.long, device=dev)
        for l in LEVELS:
            new[l] = (new[l] + [name(z, y, l)])[-16:]
        i = (put + torch.arange(len(z), device=dev)) % N
        pool[i], labels[i] = z, y
        put, received = (put + len(z)) % N, received + len(z)
        filled = min(N, received)


def spoiled(x):
    """The picture moved by up to 16 pixels, now and then softened, with coarse noise: what should not decide."""
    B, T = x.shape[:2]
    dx, dy = (int(v) for v in torch.randint(-2, 3, (2,)))
    x = F.pad(x.flatten(0, 1), (2, 2, 2, 2), mode="replicate")[:, :, 2 + dy:2 + dy + x.shape[3], 2 + dx:2 + dx + x.shape[4]]
    w = (torch.rand(B, 1, 1, 1, device=dev) * (torch.rand(B, 1, 1, 1, device=dev) < .4)).repeat_interleave(T, 0)
    x = x + (F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1) - x) * w
    coarse = F.interpolate(torch.randn(B * T, x.shape[1], 5, 8, device=dev), size=x.shape[-2:], mode="bilinear")
    return (x + coarse * (.2 * torch.rand(B, 1, 1, 1, device=dev)).repeat_interleave(T, 0)).unflatten(0, (B, T))


shown = lambda r: {h: round(100 * float(v), 1) for h, v in zip(HEADS, r)}
began = time.time()
while filled < (2 if tiny else 512):
    take()
    time.sleep(.01)
    if time.time() - began > 200:
        raise SystemExit("no clips come")
t0 = time.time()
log("first clips after %.0f s" % (t0 - began))
end = a.deadline or t0 + a.seconds
while time.time() < end and not (tiny and steps >= 6):
    if steps % 4 == 0 or steps * B > a.views * received:
        take()
    if steps * B > a.views * received and not tiny:
        time.sleep(.004); waited += .004
        continue
    p = (time.time() - t0) / max(1e-3, end - t0)
    for g in opt.param_groups:
        g["lr"] = a.lr * min(1, (steps + 1) / 150) * (.01 + .99 * (.5 + .5 * math.cos(math.pi * p)))
    k = torch.randint(0, filled, (B,), device=dev)
    seen = min(a.frames, pool.shape[1])
    o = torch.randint(0, pool.shape[1] - seen + 1, (B, 1), device=dev) + torch.arange(seen, device=dev)
    lv = torch.rand(B, device=dev) * .8
    x = pool[k[:, None], o].float()
    if steps % 4:
        x = spoiled(x)
    with cast():
        logits = see(guide.noisy(x, lv), lv)
        l = guide.loss(logits, labels[k]).sum()
    opt.zero_grad(set_to_none=True)
    l.backward()
    clip_gpu(list(net.parameters()), 5.0)
    opt.step(); ema.step()
    known.append(torch.cat([l.detach()[None], guide.right(logits, labels[k])]))
    steps += 1
    if steps % (1 if tiny else 200) == 0:
        m = torch.stack(known[-100:]).mean(0)
        log("step", steps, "clips", received, "loss %.3f" % float(m[0]), "training", shown(m[1:]), "%.0f s, waited %.0f" % (time.time() - t0, waited))
        log("  new", {l: shown(torch.stack(v).mean(0)) for l, v in new.items()})
net.load_state_dict({**net.state_dict(), **ema.state()})
fresh, until = {l: [] for l in (0., .15, .3, .45, .6, .75)}, time.time() + 6
while time.time() < until and len(fresh[0.]) < 24 and not tiny:  # clips that it has not seen, with the weights that it will have
    for z, y in arrivals(8):
        for l in fresh:
            fresh[l].append(name(z, y, l))
open(f"{a.clips}/stop", "w").close()
save_parts({k: v.half() for k, v in net.state_dict().items()}, a.out, "guide")
open(f"{a.out}/guide.done", "w").close()
for l, r in fresh.items():
    if r:
        log("new clips at level", l, shown(torch.stack(r).mean(0)), len(r), "files")
log("done, steps", steps, "clips", received, "views %.1f" % (steps * B / max(1, received)), "seconds %.0f" % (time.time() - t0))
