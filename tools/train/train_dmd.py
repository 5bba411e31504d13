"""Stage B: Self-Forcing distillation to four steps with distribution matching.

    train_dmd.py OUT SECONDS --init FOLDER [--teacher FOLDER] [--cues FOLDER]

The student rolls out on its own, chunk by chunk, with its own four steps and its own memory; the gradient goes through one
random step of each of --frames frames. The frozen teacher (bidirectional, guided) and a critic that learns the student's
distribution judge those frames together, or a share --causal of them chunk by chunk. A share (--long) of the iterations goes on where
one of --streams earlier rollouts ended, up to a random length of at most --horizon frames, so that the memory is in its steady state:
window 21 with the first chunk kept, positions by rank.

With --cues a classifier of noisy latents (`train_guide.py`) adds its gradient from the moment when its file is there: what the prompt
says and the clip does not show. Its weight is set once, so that at its beginning its gradient is --cue times as long as that of the
distribution matching. With --hold the student waits for it: until then only the critic learns, from the student's rollouts, and leaves
what it has learned in OUT/warm; another student takes it from there (--warmed).

With --recipe sparse-forcing or light-forcing the student rolls out under that memory (`sparse.py`), starting from the distilled dense
model, and --lora trains only a low-rank difference, written as OUT/<recipe>.safetensors (--from begins with an earlier one). With
--clips FOLDER (`clips.py --loops`, the folder's name followed by the number of the process) each iteration ends with --recall lessons
in what to remember (`recall.py`); until the share --alone of the time nothing else is done. `train_recall.py` gives only lessons.

    train_dmd.py OUT SECONDS --init DISTILLED --teacher TEACHER --critic OUT0 --recipe sparse-forcing --lora 16 --lr 3e-4 --long .8

Several cards work on one student under torchrun (--batch is each one's): the same choices of memory and step in every process, prompts
and noise of its own, gradients averaged."""
import argparse, glob, math, os, time
import numpy as np
import torch
import torch._dynamo
from common import *
import guide
from guide import Guide
from judge import HEADS, UNSAID, said
import recall
from memories import merge
from sparse import RECIPES, LightWan, add_lora, load_lora, reset_lora, save_lora

ap = argparse.ArgumentParser()
ap.add_argument("out"); ap.add_argument("seconds", type=float)
ap.add_argument("--init"); ap.add_argument("--teacher"); ap.add_argument("--state")
ap.add_argument("--lr", type=float, default=6e-5)
ap.add_argument("--clr", type=float, default=1.2e-4)
ap.add_argument("--guide", type=float, default=3.0)
ap.add_argument("--batch", type=int, default=48)
ap.add_argument("--critics", type=int, default=2)
ap.add_argument("--frames", type=int, default=21, help="frames that are judged at once")
ap.add_argument("--long", type=float, default=.45, help="share of iterations that go on with an earlier rollout")
ap.add_argument("--streams", type=int, default=4, help="rollouts that wait to be gone on with")
ap.add_argument("--horizon", type=int, default=252, help="frames after which a rollout ends, at most")
ap.add_argument("--warm", type=int, default=20, help="iterations until the student's rate is whole; the critic's is after 20")
ap.add_argument("--critic", help="folder with the critic of an earlier run (critic.part*)")
ap.add_argument("--clips", help="real clips (clips.py)"); ap.add_argument("--recall", type=int, default=1); ap.add_argument("--alone", type=float, default=0)
ap.add_argument("--attention", action="store_true", help="lessons change self-attention alone")
ap.add_argument("--causal", type=float, default=0, help="share of the rollouts whose chunks are judged each after the clean ones before it, by a teacher that was also trained so")
ap.add_argument("--like", help="an addition as which the student is to stay where lessons do not teach"); ap.add_argument("--alike", type=float, default=3., help="how much")
ap.add_argument("--rlr", type=float, default=4e-4, help="rate of the lessons"); ap.add_argument("--lessons", type=int, default=8, help="clips of a lesson")
ap.add_argument("--cues", help="folder with the classifier of stage A (guide.part*)"); ap.add_argument("--cue", type=float, default=.5)
ap.add_argument("--hold", type=float, default=0, help="until the classifier is there, at most until this time of day, only the critic learns"); ap.add_argument("--warmed", help="folder with the critic of another run that holds")
ap.add_argument("--window", type=int, default=21, help="frames in the dense memory"); ap.add_argument("--sink", type=int, default=3, help="first frames that stay in it; 0: none, and positions of the video")
ap.add_argument("--mixed", action="store_true", help="half of the rollouts under the memory of --window and --sink, half under 21 frames with the first chunk kept")
ap.add_argument("--away", type=float, default=.25, help="share of prompts in which the camera pans away and comes back"); ap.add_argument("--pulses", type=float, default=.125, help="share of prompts whose first object pulses"); ap.add_argument("--sways", type=float, default=.125, help="share whose first object sways")
ap.add_argument("--crossed", type=float, default=.03, help="share of prompts whose object slides one way while the camera pans the other")
ap.add_argument("--ahead", type=int, default=0, help="with --hold, iterations of the critic at least"); ap.add_argument("--sheets", action="store_true")
ap.add_argument("--wait", action="store_true", help="compile, then wait for the file `done` of --init (and of --teacher)")
ap.add_argument("--recipe", default="dense", choices=list(RECIPES))
ap.add_argument("--fade", type=float, default=1.0, help="what is left of --cue in the last quarter")
ap.add_argument("--lora", type=int, default=0, help="rank; 0 trains all weights"); ap.add_argument("--from", dest="before", help="an addition to begin with")
ap.add_argument("--deadline", type=float, default=0)
a = ap.parse_args()
dev = "cuda" if torch.cuda.is_available() else "cpu"
tiny = dev == "cpu"
torch._dynamo.config.recompile_limit = 64
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
os.makedirs(a.out, exist_ok=True)
team = Team(tiny)
rank, ranks, agree, same = team.rank, team.ranks, team.agree, team.same
assert ranks == 1 or not a.hold, "--hold is for one process"
log = Log(f"{a.out}/log_dmd.txt") if rank == 0 else lambda *_: None
seed = int(agree(time.time())[0])
torch.manual_seed(seed + 1000 * rank)
rng = np.random.default_rng([seed, rank])
text = Text(dev)
load = lambda d: load_parts(d) if glob.glob(f"{d}/ckpt.part0") else load_model_folder(d)
vae, te = TAEHV().to(dev).to(memory_format=torch.channels_last), UMT5(1280).to(dev)
real, fake = Wan().to(dev), Wan().to(dev)
gen, show, old = (RECIPES[a.recipe]().to(dev) for _ in range(3))


def remember(m, window, sink):
    """Sets what a model remembers; the recipes have windows of their own."""
    m.sink, m.ranks = sink, sink > 0
    if a.recipe == "dense":
        m.window = window


for m in (gen, show, old):
    remember(m, a.window, a.sink)
cues = Guide().to(dev).to(memory_format=torch.channels_last).eval() if a.cues else None
for m in (vae, te, real, show, old, cues):
    if m is not None:
        m.eval().requires_grad_(False)


def read():
    ck = load(a.init)
    tk = load(a.teacher) if a.teacher else ck
    vae.load_state_dict(part(ck, "vae.")); te.load_state_dict(part(ck, "te."))
    real.load_state_dict(part(tk, "tf."))
    fake.load_state_dict(part(load_parts(a.critic, "critic"), "tf.") if a.critic else part(tk, "tf."))
    if a.lora:
        reset_lora(gen)
        if a.before:
            load_lora(gen, a.before)
    base = {k.replace(".base.", "."): v for k, v in gen.named_parameters() if ".lora_" not in k}
    tfs = part(ck, "tf.")
    if a.like:
        old.load_state_dict(merge(dict(tfs), a.like))
    for k, v in (merge(tfs, a.before) if a.before and not a.lora else tfs).items():
        base.pop(k).data.copy_(v)
    assert not base, list(base)[:3]
    same(gen)


def read_cues():
    """Whether the classifier is there; it may come later than the first iterations."""
    if cues is None or not agree(os.path.exists(f"{a.cues}/guide.done"))[0]:
        return False
    cues.load_state_dict({k: v.float() for k, v in load_parts(a.cues, "guide").items()})
    log("the classifier joins")
    return True


if a.lora:
    add_lora(gen, a.lora, a.lora); add_lora(show, a.lora, a.lora)
trained = [p for p in gen.parameters() if p.requires_grad]
log("trained parameters", sum(p.numel() for p in trained))
if not tiny:
    for m in (gen, old, real, fake):
        m.compile()
og = torch.optim.AdamW(trained, lr=a.lr, betas=(0.0, .99), weight_decay=0, fused=not tiny)
oc = torch.optim.AdamW(fake.parameters(), lr=a.clr, betas=(0.0, .99), weight_decay=0, fused=not tiny)
ema = EMA(gen, .995)
if not a.wait:
    read()
    ema = EMA(gen, .995)
if a.state and os.path.exists(a.state):
    s = torch.load(a.state, map_location=dev)
    gen.load_state_dict(s["gen"]); fake.load_state_dict(s["fake"]); og.load_state_dict(s["og"]); oc.load_state_dict(s["oc"])
    ema.val = [v.to(dev) for v in s["ema"]]; ema.n = s["n"]
    log("resumed the full state")
B = 1 if tiny else a.batch
cast = lambda: torch.autocast(dev, torch.bfloat16, enabled=not tiny)
h, w = world.H // 8, world.W // 8
FULL = 6 if tiny else a.frames
PROMPTS = 4 * B if tiny else 6000


def wish():
    """A clip to ask for, hard ones more often than by chance."""
    s = world.draw_spec(rng)
    camera, motion = rng.random() < (a.away - .25) / .75, rng.random() < (a.pulses - .125) / .875
    if camera:
        s["camera"] = "away"
    if motion:
        s["objects"][0]["motion"] = "pulses"
    elif rng.random() < (a.sways - .125) / .875:
        s["objects"][0]["motion"] = "sways"
        return s
    if not camera and not motion and rng.random() < a.crossed - .03:
        left = rng.random() < .5
        s["objects"][0]["motion"], s["camera"] = "slides left" if left else "slides right", "right" if left else "left"
    return s  # none of this decides whether a combination is held out


specs = [wish() for _ in range(PROMPTS)]
words = [world.sentence(x) if rng.random() < .5 else world.caption(rng, x) for x in specs]
rng = np.random.default_rng(seed)  # from here on the same in every process
bank, empty = text(words), text([""])
wanted = torch.tensor([said(x, c) for x, c in zip(specs, words)]).to(dev)
empty_n = empty[1].expand(B)


@torch.no_grad()
def embed():
    with cast():
        return torch.cat([te(i, n) for i, n in zip(bank[0].split(500), bank[1].split(500))]), te(*empty).expand(B, -1, -1)


def self_rollout(tt, memory, start, exit_step):
    """FULL frames on from `memory`; gradient through the exit step of each chunk, whose result is the chunk."""
    outs = []
    flat = ([(k.detach(), v.detach()) for k, v in tt[0]], tt[1])
    for f in range(start, start + FULL, CHUNK):
        x = torch.randn(B, CHUNK, 16, h, w, device=dev)
        for j in range(exit_step + 1):
            t = torch.full((B, CHUNK), STEPS[j], device=dev)
            s = STEPS[j] / 1000
            last = j == exit_step
            with torch.set_grad_enabled(last and not idle):
                x0 = x - s * gen.chunk(x, t, tt if last else flat, memory, f)
            if not last:
                nx = STEPS[j + 1] / 1000
                x = (1 - nx) * x0 + nx * torch.randn_like(x0)
        outs.append(x0)
        with torch.no_grad():
            gen.chunk(x0.detach(), torch.zeros(B, CHUNK, device=dev), flat, memory, f, keep=True)
    return torch.cat(outs, 1)


ALONE = B - round(a.causal * B)  # rollouts that are judged with all frames at once


def level():
    """Noise levels [B,F]: one for a clip that is judged at once, one for each chunk of the others."""
    u = torch.rand(B, FULL // CHUNK, device=dev)
    u[:ALONE] = u[:ALONE, :1]
    return (5 * u / (1 + 4 * u)).clamp(.02, .98).repeat_interleave(CHUNK, 1)


def judged(m, x, noisy, t, words):
    """The velocities that m sees in the rollouts x [B,F,16,h,w], made noisy."""
    groups = [(noisy[:ALONE], t[:ALONE], None)] * (ALONE > 0) + [(noisy[ALONE:], t[ALONE:], x[ALONE:, :FULL - CHUNK])] * (ALONE < B)
    return torch.cat(m.mixed(groups, words))


def save():
    if a.lora:
        return save_lora(ema.state().items(), f"{a.out}/{a.recipe}.safetensors", a.lora)
    save_parts(pack(ema.state(), te.state_dict(), vae.state_dict()), a.out)
    save_parts({"tf." + k: v.to(torch.bfloat16) for k, v in fake.state_dict().items()}, a.out, "critic")


def picture(name, frames=21, seed=0):
    show.load_state_dict(ema.state())
    _, v = sample_video(show, te, vae, text, TEST_PROMPTS[:2] if tiny else TEST_PROMPTS, 6 if tiny else frames, dev, seed=seed)
    sheet(v, f"{a.out}/sheet_{name}.png", n=8)
    log("sheet", name)


HEAD_WEIGHT = torch.tensor([{"shape": 2., "motion": 3., "camera": 4.}.get(k, .5) for k in HEADS], device=dev)
lengths = []  # of both gradients, in the first iterations


def cue(x, y, part_of):
    """The classifier's gradient with respect to the clips, scaled; and what it sees rightly."""
    g = seen = 0
    for _ in range(2):  # two draws of the noise
        leaf = x.detach().float().requires_grad_()
        lv = torch.rand(B, device=dev) * .7
        out = cues(guide.noisy(leaf, lv), lv)
        g = g + torch.autograd.grad((guide.loss(out, y) * HEAD_WEIGHT).sum() * B, leaf)[0]
        seen = seen + guide.right(out, y) / 2
    size = g.flatten(1).norm(dim=1)
    g = g * (3 * size.mean() / size.clamp(min=1e-9)).clamp(max=1).reshape(-1, 1, 1, 1, 1)
    return g, seen


if a.wait:
    emb, emb0 = embed()
else:
    bank_emb, empty_emb = embed()
t0, step, saved, shown, hist, begin = None, 0, 0.0, 0, [], time.time()
buffer, streams, waiting, joined, holding, counts = [], [], a.wait, False, a.hold > 0 and cues is not None, {"fresh": 0, "stream": 0}
if waiting:
    bank_emb, empty_emb = emb, emb0
TOTALS = [x for x in (21, 42, 63, 84, 126, 189, 252) if x <= a.horizon] or [21]


def keep():
    """A checkpoint every minute."""
    global saved
    if t0 and now - t0 > saved + 60:
        if rank == 0:
            save()
        saved = now - t0


held, lessons = Gradients(trained), None
Replay.off = True  # beside these iterations a capture fails: its gradients are bound to the stream of earlier ones
if a.clips:
    lessons = recall.Lessons(gen, te, recall.Clips(f"{a.clips}{rank}", text, dev), 2 if tiny else a.lessons, held, team, ema, a.rlr, ".attn1." if a.attention else "", old if a.like else None, a.alike)


while True:
    now = agree(time.time())[0]
    p = 0 if t0 is None else (now - t0) / (a.deadline - t0 if a.deadline else a.seconds)
    if waiting and step == 6:
        torch.cuda.synchronize() if not tiny else None
        log("compiled after %.0f s, waiting" % (now - begin))
        while not agree(all(os.path.exists(f"{d}/done") for d in {a.init, a.teacher or a.init}))[0]:
            time.sleep(.2)
        read()
        bank_emb, empty_emb = embed()
        for o in (og, oc):
            o.state.clear()
        ema, buffer, streams, lengths, step, waiting, hist, begin = EMA(gen, .995), [], [], [], 0, False, [], time.time()
        if lessons is not None:
            lessons.begin(ema)
        continue
    if p >= 1 or (tiny and step >= 5 and not waiting and not holding) or (a.deadline and now > a.deadline):
        break
    k = min(1, (step + 1) / a.warm) * (1 if p < .6 else max(.1, (1 - p) / .4))
    og.param_groups[0]["lr"], oc.param_groups[0]["lr"] = a.lr * k, a.clr * min(1, (step + 1) / 20)
    if not joined and (step % 5 == 0 or holding):
        joined = not (holding and step < a.ahead) and read_cues()
        if holding and (joined or now > a.hold):
            log("held", step, "iterations; the student begins")
            os.makedirs(f"{a.out}/warm", exist_ok=True)
            save_parts({"tf." + k: v.to(torch.bfloat16) for k, v in fake.state_dict().items()}, f"{a.out}/warm", "critic")
            open(f"{a.out}/warm/done", "w").close()
            till = time.time() + 20
            while a.warmed and time.time() < till and not os.path.exists(f"{a.warmed}/warm/done"):
                time.sleep(.2)
            if a.warmed and os.path.exists(f"{a.warmed}/warm/done"):
                fake.load_state_dict(part(load_parts(f"{a.warmed}/warm", "critic"), "tf."))
                oc.state.clear()
                log("the critic of", a.warmed)
            og.state.clear()
            ema, holding, step, t0, hist, saved = EMA(gen, .995), False, 0, time.time(), [], 0.0
            if lessons is not None:
                lessons.begin(ema)
    if holding and a.warmed and step >= 8:
        time.sleep(.1)
        continue
    ease = lambda: min(1, (lessons.count + 1) / 40) * (1 if p < .6 else max(.1, (1 - p) / .4))
    if lessons is not None and t0 is not None and p < a.alone:
        lessons.teach(rng, ease())
        if lessons.count % 100 == 0:
            log(lessons.told(), "%.0f%%" % (100 * p))
        keep()
        continue
    kind = "stream" if streams and (rng.random() < a.long or waiting) else "fresh"
    if tiny or waiting:
        kind = ("fresh", "stream" if streams else "fresh")[step % 2]
    counts[kind] += 1
    idle = holding and step >= (2 if tiny else 8)  # all is compiled by then
    exit_step = len(STEPS) - 1 - step % 2 if waiting else 3 if tiny and step == 0 else int(rng.integers(len(STEPS)))
    stream = None
    total = int(rng.choice(TOTALS))
    with cast():
        if kind == "stream":
            stream = streams[int(rng.integers(len(streams)))]
            i, total, memory, begins = stream["i"], stream["total"], gen.fork(stream["memory"]), stream["frame"]
            if a.mixed:
                remember(gen, *stream["how"])
        else:
            if a.mixed:
                remember(gen, *((a.window, a.sink), (21, 3))[counts["fresh"] % 2])
            i, memory, begins = torch.randint(0, PROMPTS, (B,), device=dev), gen.memory(), 0
        ec, nc, y = bank_emb[i], bank[1][i], wanted[i]
        if a.recipe == "light-forcing":
            gen.planned = total // CHUNK
        tt = gen.text(ec, nc)
        x = self_rollout(tt, memory, begins, exit_step)
        if exit_step == len(STEPS) - 1:
            if stream is not None:
                stream.update(memory=memory, frame=begins + FULL)
            elif len(streams) < a.streams:
                streams.append(dict(memory=memory, i=i, frame=FULL, total=total, how=(gen.window, gen.sink)))
        elif stream is not None and rng.random() < .25:  # go on without a gradient
            with torch.no_grad():
                self_rollout(tt, stream["memory"], stream["frame"], len(STEPS) - 1)
                stream["frame"] += FULL
        streams = [z for z in streams if z["frame"] < z["total"]]
        grad, gn, norm, hits = *(x.new_zeros(()) for _ in range(3)), x.new_zeros(len(HEADS))
        if not idle:
            with torch.no_grad():
                s = level()
                sb, t = s[:, :, None, None, None], 1000 * s
                xs = (1 - sb) * x + sb * torch.randn_like(x)
                vr = judged(real, x, xs, t, real.text(ec, nc))
                vu = judged(real, x, xs, t, real.text(empty_emb, empty_n))
                vf = judged(fake, x, xs, t, fake.text(ec, nc))
                r = xs - sb * (vu + a.guide * (vr - vu))
                f = xs - sb * vf
                norm = (x - r).abs().mean((1, 2, 3, 4), keepdim=True).clamp(min=.02)
                grad = torch.nan_to_num((f - r) / norm)
                size = grad.norm()
            if joined:
                g, hits = cue(x, y, p)
                if len(lengths) < 40:
                    lengths.append(torch.stack([size, g.norm()]))
                d = torch.stack(lengths).mean(0)
                grad = grad + g * (a.cue * (1 if p < .75 else a.fade) * d[0] / d[1].clamp(min=1e-9))
            loss = .5 * (x.float() - (x - grad).detach().float()).pow(2).mean()
    if not idle:
        held.flat.zero_()
        loss.backward()
        team.average(held.flat)
        gn = clip_gpu(trained, 10.0)
    if not holding:
        og.step(); ema.step()
        for _ in range(a.recall if lessons is not None and t0 is not None else 0):
            lessons.teach(rng, ease())
    buffer = (buffer + [(x.detach(), ec, nc)])[-3:]
    lc = []
    for c in range(4 if idle else a.critics):
        xd, e, n = buffer[-1 - c % len(buffer)] if c > 0 else buffer[-1]
        with cast():
            sc = level()
            sb, eps = sc[:, :, None, None, None], torch.randn_like(xd)
            v = judged(fake, xd, (1 - sb) * xd + sb * eps, 1000 * sc, fake.text(e, n))
            l = (v - (eps - xd)).pow(2).mean()
        oc.zero_grad(set_to_none=True)
        l.backward()
        team.gradients(list(fake.parameters()))
        clip_gpu(list(fake.parameters()), 10.0)
        oc.step()
        lc.append(l.detach())
    hist.append(torch.stack([grad.abs().mean(), torch.stack(lc).mean(), gn, x.detach().float().std(), norm.mean(), hits.mean(), *hits[[list(HEADS).index(h) for h in ("shape", "motion", "camera")]]]))
    step += 1
    if step == (2 if tiny else 5) and not waiting and (holding or t0 is None):
        if dev == "cuda":
            torch.cuda.synchronize()
        log("warm after %.0f s" % (time.time() - begin), "peak GB", torch.cuda.max_memory_allocated() / 1e9 if dev == "cuda" else "")
        if lessons is not None:
            lessons.wait()
        t0 = None if holding else agree(time.time())[0]
    if step % (1 if tiny else 50) == 0:
        m = torch.stack(hist).mean(0).tolist(); hist = []
        log("step", step, "dmd %.3f critic %.4f grad %.3f std %.3f gap %.3f right %.3f (shape %.2f motion %.2f camera %.2f)" % tuple(m), "%.0f%%" % (100 * p), counts, [z["frame"] for z in streams],
            lessons.told() if lessons is not None else "")
    keep()
    if p > (.3, .65, 9)[shown] and a.sheets and rank == 0:
        picture(f"dmd_{shown}"); shown += 1
log("processes", ranks, "whose parameters differ from the mean by", team.apart(gen))
team.close()
save()
save_parts({"tf." + k: v.to(torch.bfloat16) for k, v in fake.state_dict().items()}, a.out, "critic")
open(f"{a.out}/done", "w").close()
log("done, steps", step, "seconds %.0f" % (time.time() - (t0 or begin)))
if a.sheets:
    picture("dmd")
    picture("dmd_20s", 81, seed=1)
if a.state:
    torch.save({"gen": gen.state_dict(), "fake": fake.state_dict(), "og": og.state_dict(), "oc": oc.state_dict(), "ema": ema.val, "n": ema.n}, a.state)
