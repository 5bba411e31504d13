"""Stage A: flow matching on clips drawn from a pool of encoded latents, teacher forced and bidirectional with the same weights.

    train_flow.py OUT SECONDS --vae FOLDER               from scratch
    train_flow.py OUT SECONDS --init FOLDER              from a checkpoint or an exported model
      --start q --end q    the part of the schedule that this run covers (lengths of clips, learning rate, weights)
      --state FILE         full training state, read if there and written at the end (for runs on one machine)
      --keep R             write the raw weights (not their average) too, to go on from elsewhere

Each step sees 576 frames in whatever clips (see PLAN), so one compilation serves all. Beside the loss of the velocity v,

    mean |e|^2 w / mean w + CHANGES mean |e_(i+1) - e_i|^2 w / mean w,     e = v - (noise - clip), w = 1 + 2 mask (until 70%)

whose second sum, over neighbouring frames of equal noise, counts what changes in time twice (a fixed weighting: the minimum stays
where it was), the text encoder's mean row has to name what the caption says (a linear layer, weight .02). The classifier of noisy
latents for stage B learns on the same pool (`guide.py`).

Launching the kernels of a step takes longer than the card needs for them, so each kind of step is captured once and replayed
(CUDA graphs; --eager for without).

Several cards work on one model under torchrun: a pool of clips in each process, gradients averaged between the pass and the update. To go on
with a teacher whose clips must turn back (README.md, "How to go on"): --init TEACHER --start .8 --whole --away .5 --freeze-text."""
import argparse, glob, math, os, time
import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from common import *
from guide import Guide
import guide
from judge import HEADS, UNSAID, labels, said

ap = argparse.ArgumentParser()
ap.add_argument("out"); ap.add_argument("seconds", type=float)
ap.add_argument("--vae", help="folder of the autoencoder"); ap.add_argument("--wait", action="store_true", help="compile, then wait for the autoencoder's stats.json"); ap.add_argument("--init"); ap.add_argument("--state")
ap.add_argument("--start", type=float, default=0.0); ap.add_argument("--end", type=float, default=1.0)
ap.add_argument("--lr", type=float, default=1.5e-3, help="of Muon; AdamW gets 0.7 of it")
ap.add_argument("--pool", type=int, default=8192); ap.add_argument("--fill", type=float, default=22, help="seconds of filling the pool before the first step")
ap.add_argument("--object", type=float, default=2.0, help="extra weight of the loss where objects are, until 70%% of the schedule")
ap.add_argument("--eager", action="store_true")
ap.add_argument("--whole", action="store_true", help="from 80%% of the schedule on only clips of 24 frames"); ap.add_argument("--away", type=float, default=.25, help="share of clips whose camera pans away and comes back")
ap.add_argument("--freeze-text", action="store_true", help="the text encoder stays as it is"); ap.add_argument("--no-cues", action="store_true", help="without a classifier for stage B")
ap.add_argument("--one", action="store_true", help="a single clip for ever: a test for faults")
ap.add_argument("--sheets", type=int, default=1); ap.add_argument("--frames", type=int, default=21)
ap.add_argument("--deadline", type=float, default=0, help="time of day (seconds since 1970) at which training ends, in place of SECONDS")
a = ap.parse_args()
dev = "cuda" if torch.cuda.is_available() else "cpu"
tiny = dev == "cpu"
torch.backends.cudnn.benchmark = True
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
os.makedirs(a.out, exist_ok=True)
team = Team(tiny)
log = Log(f"{a.out}/log_flow.txt") if team.rank == 0 else lambda *_: None
seed = int(team.agree(time.time())[0])
torch.manual_seed(seed + 1000 * team.rank)
rng = np.random.default_rng([seed, team.rank])
text = Text(dev)
tf, te, vae = Wan().to(dev), UMT5(1280).to(dev), TAEHV().to(dev)
ck = None
if a.init:
    ck = load_parts(a.init) if glob.glob(f"{a.init}/ckpt.part0") else load_model_folder(a.init)
    tf.load_state_dict(part(ck, "tf.")); te.load_state_dict(part(ck, "te."))
if not a.wait:
    vae.load_state_dict(part(load_parts(a.vae, "vae") if a.vae else ck, "vae."))
vae.eval().requires_grad_(False).to(memory_format=torch.channels_last)
log("parameters", sum(p.numel() for p in tf.parameters()), sum(p.numel() for p in te.parameters()), "init", bool(ck))
te.requires_grad_(not a.freeze_text)
net = torch.nn.ModuleDict({"tf": tf, "te": te})
team.same(net)
probe = torch.nn.ModuleDict({k: torch.nn.Linear(256, len(v)) for k, v in HEADS.items()}).to(dev)
cues = Guide().to(dev).to(memory_format=torch.channels_last)
team.same(probe); team.same(cues)
mats = [p for n, p in tf.blocks.named_parameters() if p.dim() == 2]
ids_m = {id(p) for p in mats}
rate, rate_cues, extra, filled_t = (torch.zeros((), device=dev) for _ in range(4))  # what changes from step to step
muon = Muon(mats, rate)
adam = Adam([p for p in net.parameters() if id(p) not in ids_m and p.requires_grad] + list(probe.parameters()))
ocues = Adam(cues.parameters(), betas=(.9, .99))
for p in mats:
    muon.state[p]["m"] = torch.zeros_like(p)
ema = EMA(net, .999)
if a.state and os.path.exists(a.state):
    s = torch.load(a.state, map_location=dev)
    net.load_state_dict(s["net"]); muon.load_state_dict(s["muon"])
    for to, of in ((adam.m, s["m"]), (adam.v, s["v"])):
        torch._foreach_copy_(to, of)
    ema.val = [v.to(dev) for v in s["ema"]]; ema.n = s["n"]
    log("resumed the full state")
resumed = ema.n > 0
ema.n = max(ema.n, 10 ** 6)  # a captured step has one decay for ever
encode_fn = vae.encode
if not tiny:
    world.compile_renderer(); tf.compile()
    encode_fn = torch.compile(vae.encode, dynamic=False)
cast = lambda: torch.autocast(dev, torch.bfloat16, enabled=not tiny)
LONG, G = (12, 1) if tiny else (24, 4)
N = 4 if tiny else a.pool
h, w = world.H // 8, world.W // 8

# Per step, from this point of the schedule on: (kind, clips, frames), f for teacher forced, b for bidirectional. A forced clip of n
# frames takes 2n - 3 frames of work.
PLAN = [(0.0, [(("b", 192, 3),)]),
        (.12, [(("f", 32, 6), ("b", 24, 12))]),
        (.45, [(("f", 16, 12), ("b", 20, 12)), (("f", 32, 6), ("b", 24, 12))]),
        (.80, [(("f", 16, 12), ("b", 20, 12))] * (not a.whole) + [(("f", 8, 24), ("b", 9, 24))])]
if tiny:
    PLAN = [(0.0, [(("b", 3, 3),)]), (.3, [(("f", 1, 6), ("b", 1, 12))]), (.6, [(("f", 1, 12), ("b", 1, 12))])]
CHANGES, MASK = .5, .17  # mean of the masks
CUES = 2 if tiny else 48

pool = torch.empty(N, LONG, 16, h, w, dtype=torch.bfloat16, device=dev)
masks = torch.empty(N, LONG, 1, h, w, dtype=torch.bfloat16, device=dev)
ids_all = torch.zeros(N, TOKENS, dtype=torch.long, device=dev)
n_all = torch.ones(N, dtype=torch.long, device=dev)
seen = torch.full((N, len(HEADS)), UNSAID, device=dev)  # what the clip shows
spoken = seen.clone()                                # what its caption says of it
filled, put = 0, 0


@torch.no_grad()
def refresh():
    """Encode a few new clips into the pool."""
    global filled, put
    specs = [world.draw_spec(rng) for _ in range(G)]
    for s in specs:
        if rng.random() < (a.away - .25) / .75:
            s["camera"] = "away"  # no part of what decides whether a combination is held out
    P, caps, specs = world.sample(rng, G, specs)
    v = world.render(P.to(dev, non_blocking=True), 4 * LONG, start=torch.from_numpy(rng.uniform(0, 20, G)), mask=True)
    with cast():
        pool[put:put + G] = encode_fn(v[:, :, :3].contiguous()).to(torch.bfloat16)
    m = F.avg_pool2d(v[:, :, 3:].amax(2).flatten(0, 1)[:, None], 8).reshape(G, LONG, 4, 1, h, w)
    masks[put:put + G] = m.amax(2)
    ids_all[put:put + G], n_all[put:put + G] = text(caps)
    for to, rows in ((seen, [said(x) for x in specs]), (spoken, [said(x, c) for x, c in zip(specs, caps)])):
        to[put:put + G] = torch.tensor(rows).to(dev, non_blocking=True)
    put = (put + G) % (N // G * G)
    filled = min(N // G * G, filled + G)


def warm():
    """Compile everything on noise, before the autoencoder is there."""
    refresh()
    x = torch.randn(576, CHUNK, 16, h, w, device=dev)[:6 if tiny else 192]
    with cast():
        kv = tf.text(te(ids_all[:1].expand(len(x), -1), n_all[:1].expand(len(x))), n_all[:1].expand(len(x)))
        tf.bidir(x, torch.full(x.shape[:2], 500., device=dev), kv).pow(2).mean().backward()
    net.zero_grad(set_to_none=True)


begin = time.time()
if a.wait:
    warm()
    log("compiled after %.0f s, waiting for" % (time.time() - begin), a.vae)
    while not os.path.exists(f"{a.vae}/stats.json"):
        time.sleep(.2)
    vae.load_state_dict(part(load_parts(a.vae, "vae"), "vae."))
    filled, put = 0, 0
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
    """Half shifted by 5, a quarter near pure noise (there motion and camera are decided), a quarter in the middle."""
    u, k = torch.rand(shape, device=dev), torch.rand(shape, device=dev)
    s = torch.where(k < .5, 5 * u / (1 + 4 * u), torch.where(k < .75, .84 + .16 * u, torch.sigmoid(torch.randn(shape, device=dev) * 1.2 + .3)))
    return s.clamp(1e-3, 1)


def take(B, Fr):
    """Random clips of Fr frames, half of them from the beginning: latents, masks, token ids, lengths, rows of the pool."""
    i = (torch.rand(B, device=dev) * filled_t).long()
    o = torch.randint(0, LONG - Fr + 1, (B,), device=dev) * (torch.rand(B, device=dev) < .5)
    j = o[:, None] + torch.arange(Fr, device=dev)
    drop = torch.rand(B, device=dev) < .1
    labels_ = torch.where(drop[:, None], UNSAID, spoken[i])
    return pool[i[:, None], j].float(), masks[i[:, None], j].float(), torch.where(drop[:, None], empty_ids, ids_all[i]), torch.where(drop, empty_n, n_all[i]), labels_


def error(v, y, m, extra, same):
    """The weighted loss of the docstring; `same` frames in a row have the same noise."""
    e = (v - y).unflatten(1, (-1, same))
    w = (1 + extra * m).unflatten(1, (-1, same))
    square, change = e.pow(2).mean(3, keepdim=True), (e[:, :, 1:] - e[:, :, :-1]).pow(2).mean(3, keepdim=True)
    plain = square.detach()
    return ((square * w).mean() + CHANGES * (change * w[:, :, 1:]).mean()) / (1 + extra * MASK), plain.mean(), (plain * (w > 1 + .5 * extra)).sum() / (w > 1 + .5 * extra).sum().clamp(min=1)


def save():
    st = ema.state()
    tfs, tes = ({k[3:]: v for k, v in st.items() if k.startswith(p)} for p in ("tf.", "te."))
    save_parts(pack(tfs, tes, vae.state_dict()), a.out)
    if not a.no_cues:
        save_parts({k: v.half() for k, v in cues.state_dict().items()}, a.out, "guide")
    return tfs, tes


up = lambda s: s[:, :, None, None, None]
per = lambda z, k: z[..., None].expand(*z.shape, k).flatten(-2)  # each entry k times
sums = torch.zeros(8 + len(HEADS), device=dev)


def one_step(entry):
    """One step of training on the clips of an entry of PLAN; reads what changes from tensors and adds to `sums`."""
    groups, targets, ids, n, says = [], [], [], [], []
    for kind, b, fn in entry:
        x, m, i, l, sp = take(b, fn)
        same = CHUNK if kind == "f" else fn
        s = per(levels((b, fn // same)), same)
        eps, ctx = torch.randn_like(x), None
        if kind == "f":
            ctx = (x + torch.randn_like(x) * up(per(torch.rand(b, fn // CHUNK, device=dev) * .1, CHUNK)))[:, :fn - CHUNK]
        groups.append(((1 - up(s)) * x + up(s) * eps, 1000 * s, ctx))
        targets.append((eps - x, m, same)); ids.append(i); n.append(l); says.append(sp)
    with cast():
        ids, n, says = torch.cat(ids), torch.cat(n), torch.cat(says)
        emb = te(ids, n)
        vs = tf.mixed(groups, tf.text(emb, n))
        rows = emb.float().sum(1) / n[:, None]
        words = guide.loss({k: f(rows) for k, f in probe.items()}, says).sum()
        ls, shown = [], []
        for v, (y, m, same) in zip(vs, targets):
            l, all_, inside = error(v, y, m, extra, same)
            ls.append(l)
            shown += [all_, inside]
        loss = sum(ls) + .02 * words
    loss.backward()
    sums[4 - len(shown):4] += torch.stack(shown)
    sums[5] += words.detach()


def update():
    sums[4] += clip_gpu(list(net.parameters()), 1.0)
    muon.step(); adam.step(rate * .7); ema.step()


def cue_step():
    """The classifier for stage B."""
    with cast():
        k = (torch.rand(CUES, device=dev) * filled_t).long()
        lv = torch.rand(CUES, device=dev) * .8
        o = (torch.rand(CUES, 1, device=dev) * (LONG - 12 + 1)).long() + torch.arange(12, device=dev)
        y = seen[k]
        logits = cues(guide.noisy(pool[k[:, None], o].float(), lv), lv)
        cue = guide.loss(logits, y).sum()
    cue.backward()
    sums[8:] += guide.right(logits, y)


def update_cues():
    ocues.step(rate_cues)


Replay.off = tiny or a.eager
held, held_cues = Gradients([*net.parameters(), *probe.parameters()]), Gradients(cues.parameters())
steps_of = {e: Replay(held.of(lambda e=e: one_step(e))) for _, es in PLAN for e in es}
cue_of, update_of, update_cues_of = Replay(held_cues.of(cue_step)), Replay(update), Replay(update_cues)
t0, step, saved, counts, where = None, 0, 0.0, [0, 0, 0], -1
begin = time.time()
while True:
    now = team.agree(time.time())[0]
    p = 0 if t0 is None else (now - t0) / (a.deadline - t0 if a.deadline else a.seconds)
    if p >= 1 or (tiny and step >= 8) or (a.deadline and now > a.deadline):
        break
    if tiny:
        p = step / 8
    q = a.start + (a.end - a.start) * p
    lr = a.lr * min(1, (step + 1) / (60 if resumed else 200)) * (.01 + .99 * (.5 + .5 * math.cos(math.pi * max(0, (q - .3) / .7))))
    if not a.one and step % (4 if filled < 6000 else 8) == 0:
        refresh()
    phase = max(i for i, (at, _) in enumerate(PLAN) if q >= at)
    if phase != where:
        log("phase", phase)
        where = phase
    rate.fill_(lr); extra.fill_(1e-4 + a.object * min(1.0, max(0.0, (.9 - q) / .2))); filled_t.fill_(filled)
    rate_cues.fill_(1e-3 * min(1, (step + 1) / 200) * (.01 + .99 * (.5 + .5 * math.cos(math.pi * min(1, p)))))
    entry = PLAN[phase][1][step % len(PLAN[phase][1])]
    steps_of[entry]()
    team.average(held.flat)
    update_of()
    counts[0] += len(entry) > 1; counts[1] += 1
    if step % 2 == 0 and not a.no_cues:
        cue_of(); team.average(held_cues.flat); update_cues_of(); counts[2] += 1
    step += 1
    if step % 10 == 0 and dev == "cuda":
        torch.cuda.current_stream().synchronize()  # the deadline is met to ten steps
    if step == 5:
        log("warm after %.0f s" % (time.time() - begin), "peak GB", torch.cuda.max_memory_allocated() / 1e9 if dev == "cuda" else "")
        t0 = team.agree(time.time())[0]
    if step % (1 if tiny else 250) == 0:
        r = sums.tolist(); sums.zero_()
        f, n, c = (max(1, x) for x in counts); counts = [0, 0, 0]
        log("step %d q %.3f forced %.4f (objects %.4f) bidir %.4f (objects %.4f) grad %.2f words %.3f" % (step, q, r[0] / f, r[1] / f, *(x / n for x in r[2:6])),
            "lr %.1e pool %d guide" % (lr, filled), {k: round(100 * v / c) for k, v in zip(HEADS, r[8:])})
    if t0 and now - t0 > saved + 100:
        if team.rank == 0:
            save()
        saved = now - t0
log("processes", team.ranks, "whose parameters differ from the mean by", team.apart(net))
team.close()
tfs, tes = save()
open(f"{a.out}/done", "w").close()
log("done, steps", step, "seconds %.0f" % (time.time() - (t0 or begin)))
if a.state:
    torch.save({"net": net.state_dict(), "muon": muon.state_dict(), "m": adam.m, "v": adam.v, "ema": ema.val, "n": ema.n}, a.state)
tf.load_state_dict(tfs); te.load_state_dict(tes)
if a.sheets:
    nf = 6 if tiny else a.frames
    for name, frames, kw in [("guided24", nf, dict(steps=shifted(2 if tiny else 24), euler=True, scale=3.0)), ("few", nf, {})] + \
            ([] if a.sheets < 2 else [("sde12", nf, dict(steps=shifted(12))), ("guided24_20s", 6 if tiny else 81, dict(steps=shifted(24), euler=True, scale=3.0))]):
        _, v = sample_video(tf, te, vae, text, TEST_PROMPTS[:2] if tiny else TEST_PROMPTS, frames, dev, **kw)
        sheet(v, f"{a.out}/sheet_{name}.png")
        log("sheet", name)
