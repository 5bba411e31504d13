"""Stage A: flow matching on clips drawn from a pool of encoded latents, teacher forced and bidirectional with the same weights.

    train_flow.py OUT SECONDS --vae FOLDER               from scratch
    train_flow.py OUT SECONDS --init FOLDER              from a checkpoint or an exported model
      --start q --end q    the part of the schedule that this run covers (lengths of clips, learning rate, weights)
      --state FILE         full training state, read if there and written at the end (for runs on one machine)
      --keep R             write the raw weights (not their average) too, to go on from elsewhere

Each step sees 576 frames in whatever clips (see PLAN), so one compilation serves all."""
import argparse, glob, math, os, time
import numpy as np
import torch
import torch.nn.functional as F
from common import *

ap = argparse.ArgumentParser()
ap.add_argument("out"); ap.add_argument("seconds", type=float)
ap.add_argument("--vae"); ap.add_argument("--init"); ap.add_argument("--state")
ap.add_argument("--start", type=float, default=0.0); ap.add_argument("--end", type=float, default=1.0)
ap.add_argument("--lr", type=float, default=1.8e-3, help="of Muon; AdamW gets 0.7 of it")
ap.add_argument("--pool", type=int, default=4096); ap.add_argument("--fill", type=float, default=22, help="seconds of filling the pool before the first step")
ap.add_argument("--object", type=float, default=2.0, help="extra weight of the loss where objects are, until 70%% of the schedule")
ap.add_argument("--one", action="store_true", help="a single clip for ever: a test for faults")
ap.add_argument("--sheets", type=int, default=1); ap.add_argument("--frames", type=int, default=21)
ap.add_argument("--deadline", type=float, default=0, help="time of day (seconds since 1970) at which training ends, in place of SECONDS")
a = ap.parse_args()
dev = "cuda" if torch.cuda.is_available() else "cpu"
tiny = dev == "cpu"
torch.backends.cudnn.benchmark = True
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
os.makedirs(a.out, exist_ok=True)
log = Log(f"{a.out}/log_flow.txt")
seed = int(time.time())
torch.manual_seed(seed)
rng = np.random.default_rng(seed)
text = Text(dev)
tf, te, vae = Wan().to(dev), UMT5(1280).to(dev), TAEHV().to(dev)
ck = None
if a.init:
    ck = load_parts(a.init) if glob.glob(f"{a.init}/ckpt.part0") else load_model_folder(a.init)
    tf.load_state_dict(part(ck, "tf.")); te.load_state_dict(part(ck, "te."))
vae.load_state_dict(part(load_parts(a.vae, "vae") if a.vae else ck, "vae."))
vae.eval().requires_grad_(False).to(memory_format=torch.channels_last)
log("parameters", sum(p.numel() for p in tf.parameters()), sum(p.numel() for p in te.parameters()), "init", bool(ck))
net = torch.nn.ModuleDict({"tf": tf, "te": te})
mats = [p for n, p in tf.blocks.named_parameters() if p.dim() == 2]
ids_m = {id(p) for p in mats}
muon = Muon(mats, a.lr)
adam = torch.optim.AdamW([p for p in net.parameters() if id(p) not in ids_m], lr=a.lr, betas=(.9, .98), weight_decay=0.0, fused=not tiny)
ema = EMA(net, .999)
if a.state and os.path.exists(a.state):
    s = torch.load(a.state, map_location=dev)
    net.load_state_dict(s["net"]); muon.load_state_dict(s["muon"]); adam.load_state_dict(s["adam"])
    ema.val = [v.to(dev) for v in s["ema"]]; ema.n = s["n"]
    log("resumed the full state")
resumed = ema.n > 0
encode_fn = vae.encode
if not tiny:
    world.compile_renderer(); tf.compile()
    encode_fn = torch.compile(vae.encode, dynamic=False)
cast = lambda: torch.autocast(dev, torch.bfloat16, enabled=not tiny)
LONG, G = (12, 1) if tiny else (24, 4)
N = 4 if tiny else a.pool
h, w = world.H // 8, world.W // 8

# Per step: (clips, frames) forced and (clips, frames) bidirectional, from this point of the schedule on. A forced clip of n
# frames takes 2n - 3 frames of work.
PLAN = [(0.0, [((0, 0), (192, 3))]),
        (.25, [((32, 6), (24, 12))]),
        (.62, [((16, 12), (20, 12))]),
        (.80, [((16, 12), (20, 12)), ((8, 24), (9, 24))])]
if tiny:
    PLAN = [(0.0, [((0, 0), (3, 3))]), (.3, [((1, 6), (1, 12))]), (.6, [((1, 12), (1, 12))])]

pool = torch.empty(N, LONG, 16, h, w, dtype=torch.bfloat16, device=dev)
masks = torch.empty(N, LONG, 1, h, w, dtype=torch.bfloat16, device=dev)
ids_all = torch.zeros(N, TOKENS, dtype=torch.long, device=dev)
n_all = torch.ones(N, dtype=torch.long, device=dev)
filled, put = 0, 0


@torch.no_grad()
def refresh():
    """Encode a few new clips into the pool."""
    global filled, put
    P, caps, _ = world.sample(rng, G)
    v = world.render(P.to(dev, non_blocking=True), 4 * LONG, start=torch.from_numpy(rng.uniform(0, 20, G)), mask=True)
    with cast():
        pool[put:put + G] = encode_fn(v[:, :, :3].contiguous()).to(torch.bfloat16)
    m = F.avg_pool2d(v[:, :, 3].flatten(0, 1)[:, None], 8).reshape(G, LONG, 4, 1, h, w)
    masks[put:put + G] = m.amax(2)
    ids_all[put:put + G], n_all[put:put + G] = text(caps)
    put = (put + G) % (N // G * G)
    filled = min(N // G * G, filled + G)


begin = time.time()
refresh()
fill0 = time.time()
while filled < N // G * G and (time.time() - fill0 < a.fill) and not a.one:
    refresh()
    if dev == "cuda":
        torch.cuda.synchronize()
log("pool of", filled, "clips after %.0f s, %.1f clips a second" % (time.time() - begin, filled / (time.time() - fill0)))
if a.one:
    filled = 1
empty_ids, empty_n = text([""])


def levels(shape):
    u = torch.rand(shape, device=dev)
    s = torch.where(torch.rand(shape, device=dev) < .6, 5 * u / (1 + 4 * u), torch.sigmoid(torch.randn(shape, device=dev) * 1.2 + .3))
    return s.clamp(1e-3, 1)


def take(B, Fr):
    """Random clips of Fr frames, half of them from the beginning: latents, masks, token ids, lengths."""
    i = torch.randint(0, filled, (B,), device=dev)
    o = torch.randint(0, LONG - Fr + 1, (B,), device=dev) * (torch.rand(B, device=dev) < .5)
    j = o[:, None] + torch.arange(Fr, device=dev)
    drop = torch.rand(B, device=dev) < .1
    return pool[i[:, None], j].float(), masks[i[:, None], j].float(), torch.where(drop[:, None], empty_ids, ids_all[i]), torch.where(drop, empty_n, n_all[i])


def save():
    st = ema.state()
    tfs, tes = ({k[3:]: v for k, v in st.items() if k.startswith(p)} for p in ("tf.", "te."))
    save_parts(pack(tfs, tes, vae.state_dict()), a.out)
    return tfs, tes


up = lambda s: s[:, :, None, None, None]
t0, step, saved, hist, where = None, 0, 0.0, [], -1
begin = time.time()
while True:
    now = time.time()
    p = 0 if t0 is None else (now - t0) / (a.deadline - t0 if a.deadline else a.seconds)
    if p >= 1 or (tiny and step >= 8) or (a.deadline and now > a.deadline):
        break
    if tiny:
        p = step / 8
    q = a.start + (a.end - a.start) * p
    lr = a.lr * min(1, (step + 1) / (60 if resumed else 200)) * (.01 + .99 * (.5 + .5 * math.cos(math.pi * max(0, (q - .25) / .75))))
    for o, k in ((muon, 1.0), (adam, .7)):
        for g in o.param_groups:
            g["lr"] = lr * k
    if not a.one and step % (3 if filled < N // G * G else 8) == 0:
        refresh()
    phase = max(i for i, (at, _) in enumerate(PLAN) if q >= at)
    if phase != where:
        if hist:
            log("phase", phase)
        where, hist = phase, []
    (fb, fn), (bb, bn) = PLAN[phase][1][step % len(PLAN[phase][1])]
    extra = a.object * min(1.0, max(0.0, (.9 - q) / .2))
    groups, targets, ids, n = [], [], [], []
    if fb:
        x, m, i, l = take(fb, fn)
        s = levels((fb, fn // 3)).repeat_interleave(3, 1)
        eps = torch.randn_like(x)
        noise = (torch.rand(fb, fn // 3, device=dev) * .1).repeat_interleave(3, 1)
        ctx = (x + torch.randn_like(x) * up(noise))[:, :fn - CHUNK]
        groups.append(((1 - up(s)) * x + up(s) * eps, 1000 * s, ctx)); targets.append((eps - x, m)); ids.append(i); n.append(l)
    x, m, i, l = take(bb, bn)
    s = levels((bb, 1)).expand(-1, bn)
    eps = torch.randn_like(x)
    groups.append(((1 - up(s)) * x + up(s) * eps, 1000 * s, None)); targets.append((eps - x, m)); ids.append(i); n.append(l)
    with cast():
        ids, n = torch.cat(ids), torch.cat(n)
        vs = tf.mixed(groups, tf.text(te(ids, n), n))
        ls, shown = [], []
        for v, (y, m) in zip(vs, targets):
            e = (v - y).pow(2).mean(2, keepdim=True)
            ls.append((e * (1 + extra * m)).mean() / (1 + extra * .12))
            shown += [e.detach().mean(), (e.detach() * m).sum() / m.sum().clamp(min=1)]
        loss = ls[0] if len(ls) == 1 else ls[0] + .7 * ls[1]
    for o in (muon, adam):
        o.zero_grad(set_to_none=True)
    loss.backward()
    gn = clip_gpu(list(net.parameters()), 1.0)
    muon.step(); adam.step(); ema.step()
    hist.append(torch.stack(([shown[0] * 0] * 2 if not fb else []) + shown + [gn.detach()]))
    step += 1
    if step == 5:
        if dev == "cuda":
            torch.cuda.synchronize()
        log("warm after %.0f s" % (time.time() - begin), "peak GB", torch.cuda.max_memory_allocated() / 1e9 if dev == "cuda" else "")
        t0 = time.time()
    if step % (1 if tiny else 250) == 0 and hist:
        r = torch.stack(hist).mean(0).tolist(); hist = []
        log("step %d q %.3f forced %.4f (objects %.4f) bidir %.4f (objects %.4f) grad %.2f lr %.1e pool %d" % (step, q, *r, lr, filled))
    if t0 and now - t0 > saved + 120:
        save(); saved = now - t0
tfs, tes = save()
log("done, steps", step, "seconds %.0f" % (time.time() - (t0 or begin)))
if a.state:
    torch.save({"net": net.state_dict(), "muon": muon.state_dict(), "adam": adam.state_dict(), "ema": ema.val, "n": ema.n}, a.state)
tf.load_state_dict(tfs); te.load_state_dict(tes)
if a.sheets:
    nf = 6 if tiny else a.frames
    for name, frames, kw in [("guided24", nf, dict(steps=shifted(2 if tiny else 24), euler=True, scale=3.0)), ("few", nf, {})] + \
            ([] if a.sheets < 2 else [("sde12", nf, dict(steps=shifted(12))), ("guided24_20s", 6 if tiny else 81, dict(steps=shifted(24), euler=True, scale=3.0))]):
        _, v = sample_video(tf, te, vae, text, TEST_PROMPTS[:2] if tiny else TEST_PROMPTS, frames, dev, **kw)
        sheet(v, f"{a.out}/sheet_{name}.png")
        log("sheet", name)
