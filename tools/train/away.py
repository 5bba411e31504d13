"""Places that leave the view and come back: a camera that swings away and returns stands after one cycle where it began.

How far the camera of a generated video has gone is read from the video. From one frame to the next (a quarter of a second apart)
every shift is tried; blocks of the picture may follow it with the parallax of any layer of the world (the sky and the object do not
move, the far and middle ridge move by .5 and .75 of it), those on the near ground wholly, and the shift that explains most is added
up. From it follow the turns and returns of the camera, and which columns of a first view were out of sight for so long that a window
of 12 latent frames holds nothing of them (ABSENT). Only these columns are compared.

The same columns of the screen at the turns before and after show another place under the same sky, sun and object: what a return
has above the mean of them is memory, and a land that looks the same everywhere, or has lost its colour on the way, has none.

A free rollout seldom swings as it is told. `led` clips begin with the world's own frames up to LEAD, when the camera is on its way
back (every cycle is CYCLE here); what follows is made, and every memory has to fill the same gap. Each has a twin with the same
caption, sky, sun, object and camera in another landscape. What the twin's return has of the first view is what a guess has.

    away.py [--prompts 24]     the estimate against the world's own camera, on rendered clips"""
import torch
import torch.nn.functional as F
import world

STRIDE = 4           # frames of the video from one looked at to the next: one latent frame
STEP = STRIDE / world.FPS
FIRST = 1            # the first view, after 0.25 s: in the first chunk, at a camera that hardly moves yet
FASTEST = 36         # pixels per step; the world has at most 30
ABSENT = 10          # latent frames; a window of 12 shows a chunk of 3 the 9 before it
COLUMNS, AWAY, BACK = 40, 80, 24  # at least so many columns, pixels gone, pixels off at the return
ROWS = (40, 152)     # of landmarks and ridges
LEAD, CYCLE = 15, 5.3  # latent frames (3.75 s, 63% of the way still to go back), seconds
SHIFT, AROUND = 24, 2  # the best of so many pixels and steps either way


@torch.no_grad()
def steps(video, some=256):
    """video [B,K,3,H,W], STRIDE frames apart -> pixels the camera went to the right from each to the next, [B,K-1]."""
    B, K, _, H, W = video.shape
    x = F.avg_pool2d(video.flatten(0, 2)[:, None], (4, 1)).reshape(B, K, 3, H // 4, W)
    pairs = torch.stack([x[:, :-1], x[:, 1:]], 2).flatten(0, 1)
    R = FASTEST
    cols = torch.arange(W, device=x.device)
    out = []
    for p in pairs.split(some):
        a, b = p[:, 0], F.pad(p[:, 1], (R, R))
        # what stood at x stands at x - s; strips of 16 rows, without the first and the last
        off = {s: (a - b[..., R - s:R - s + W]).pow(2).sum(1).unflatten(1, (-1, 4)).mean(2)[:, 1:9] for s in range(-R, R + 1)}
        cost = []
        for s in range(-R, R + 1):
            seen = ((cols - s >= 0) & (cols - s < W)).float()
            block = lambda share: (off[round(share * s)] * seen).unflatten(-1, (-1, 32)).mean(-1)
            one, mid, far, sky = (block(q) for q in (1, .75, .5, 0))
            best = torch.minimum(torch.minimum(one, mid), torch.minimum(far, sky))
            best[:, 6] = torch.minimum(one, mid)[:, 6]
            best[:, 7] = one[:, 7]
            cost.append(best.sum((1, 2)) * W / seen.sum())
        out.append(torch.stack(cost, 1))
    cost = torch.cat(out).unflatten(0, (B, K - 1))
    return smooth(cost)


def smooth(cost):
    """cost [B,K,2R+1] -> the cheapest course, whose speed changes little from step to step, to parts of a pixel."""
    B, K, n = cost.shape
    r = torch.arange(n, device=cost.device, dtype=cost.dtype)
    unit = cost.mean(-1, keepdim=True).clamp(min=1e-9)
    c = cost / unit
    turn = ((r[:, None] - r[None]) / 12).pow(2).clamp(max=1) * .3
    total, come = c[:, 0], []
    for k in range(1, K):
        best, i = (total[:, None] + turn).min(-1)
        come.append(i); total = best + c[:, k]
    i = total.argmin(-1)
    path = [i]
    for back in reversed(come):
        i = back.gather(1, i[:, None])[:, 0]
        path.append(i)
    i = torch.stack(path[::-1], 1)
    l, m, h = (c.gather(2, (i + j).clamp(0, n - 1)[..., None])[..., 0] for j in (-1, 0, 1))
    part = (.5 * (l - h) / (l - 2 * m + h).clamp(min=1e-6)).clamp(-.5, .5)
    return i - n // 2 + torch.where((i > 0) & (i < n - 1), part, 0.)


def track(video):
    """Where the camera stands at each frame, [B,K] in pixels to the right of the first view."""
    d = F.pad(steps(video).cumsum(1), (1, 0))
    return d - d[:, FIRST:FIRST + 1]


def loops(d, home):
    """d [K] of one rollout, as a list -> frames [home, turn, return, turn, return, turn]: the camera is back when it was AWAY pixels
    off and is within BACK again, at the nearest point of that approach; -1 for what did not happen."""
    out, K = [home], len(d)
    off = [abs(z - d[home]) for z in d]
    while len(out) < 6:
        gone = next((k for k in range(out[-1], K) if off[k] >= AWAY), None)
        if gone is None:
            break
        back = next((k for k in range(gone, K) if off[k] <= BACK), None)
        out.append(max(range(gone, back or K), key=off.__getitem__))
        if back is None or len(out) == 6:
            break
        while back + 1 < K and off[back + 1] < off[back]:
            back += 1
        out.append(back)
    return out + [-1] * (6 - len(out))


def turns(d):
    """d [B,K] -> `loops` from the first view, and from the first turn, [B,6] each."""
    rows = d.tolist()
    first = [loops(r, FIRST) for r in rows]
    second = [loops(r, f[1]) if f[1] > 0 else [-1] * 6 for r, f in zip(rows, first)]
    return [torch.tensor(x, device=d.device) for x in (first, second)]


def absent(d, a, b, never=False):
    """d [B,K], a and b [B] frames -> columns of view a [B,W] that b shows and that for ABSENT frames between no frame shows; or, with
    never, those that every frame between shows."""
    x = torch.arange(world.W, device=d.device)[None]
    here = d.gather(1, a[:, None])
    run, most = torch.zeros_like(x + here), torch.zeros_like(x + here)
    for k in range(d.shape[1]):
        at = x - (d[:, k:k + 1] - here)
        inside = ((k > a) & (k < b))[:, None]
        run = torch.where(inside & ((at < 0) | (at >= world.W)), run + 1, 0.)
        most = torch.maximum(most, run)
    at = x - (d.gather(1, b[:, None]) - here)
    return (most == 0 if never else most >= ABSENT) & (at >= 0) & (at < world.W)


def agreement(video, a, other, b, columns):
    """View a [B] of video [B,K,3,H,W] and the views around b of another: the best over AROUND times and SHIFT sideways of PSNR (at
    most 40 dB) and of the correlation of what varies along the rows (no sky, no common colour), in the columns [B,W]. -> two [B]"""
    B, K, _, _, W = video.shape
    n = torch.arange(B, device=video.device)
    first = video[n, a][:, :, ROWS[0]:ROWS[1]]
    x = torch.arange(W, device=video.device)
    top = [torch.full((B,), -99., device=video.device) for _ in range(2)]
    for j in range(-AROUND, AROUND + 1):
        later = F.pad(other[n, (b + j).clamp(0, K - 1)][:, :, ROWS[0]:ROWS[1]], (SHIFT, SHIFT))
        for s in range(-SHIFT, SHIFT + 1, 4):
            m = (columns & (x - s >= 0) & (x - s < W))[:, None, None].float()
            c = m.sum(-1, keepdim=True).clamp(min=1)
            z = later[..., SHIFT - s:SHIFT - s + W]
            off = ((first - z).pow(2) * m).sum(-1, keepdim=True) / c
            psnr = -10 * torch.log10(off.mean((1, 2, 3)).clamp(min=1e-4))
            p, q = ((y - (y * m).sum(-1, keepdim=True) / c) * m for y in (first, z))
            same = (p * q).sum((1, 2, 3)) / (p.pow(2).sum((1, 2, 3)) * q.pow(2).sum((1, 2, 3)) + 1e-8).sqrt()
            top = [torch.maximum(t, v) for t, v in zip(top, (psnr, same))]
    return top


# name: which of `turns`, from where to where (0 the first view or turn, 1 the turn away from it, 2 back, ...), turns before and after
VISITS = {"first return": (0, 2, (1, 3)), "second return": (0, 4, (3, 5)), "back at the turn": (1, 2, (1, 3))}
MEASURES = ("psnr", "structure")


@torch.no_grad()
def measure(video, d=None):
    """video [B,K,3,H,W], STRIDE frames apart -> {visit: {"went", "back", "counts": bool [B], "columns", "seconds": [B], measure: [B,3] of
    the same place, other places, another prompt's}} on the CPU, and the course and turns. d: the camera, where it is known."""
    d = track(video) if d is None else d
    found = turns(d)
    out = {}
    for name, (which, j, others) in VISITS.items():
        at = found[which]
        back = at[:, j] > 0
        a, b = at[:, 0].clamp(min=0), at[:, j].clamp(min=0)
        columns = absent(d, a, b)
        again = agreement(video, a, video, b, columns)
        strange = agreement(video, a, video.roll(1, 0), b, columns)
        there = torch.stack([at[:, o] > 0 for o in others], 1).float()
        other = [agreement(video, a, video, at[:, o].clamp(min=0), columns) for o in others]
        r = {"went": (at[:, j - 1] > 0).cpu(), "back": back.cpu(), "counts": (back & (columns.sum(1) >= COLUMNS)).cpu(),
             "columns": columns.sum(1).cpu(), "seconds": ((b - a) * STEP).cpu()}
        for n, m in enumerate(MEASURES):
            mean = (torch.stack([o[n] for o in other], 1) * there).sum(1) / there.sum(1).clamp(min=1)
            r[m] = torch.stack([again[n], mean, strange[n]], 1).cpu()
        out[name] = r
    return out, d, found[0]


@torch.no_grad()
def led(video, camera):
    """video [B,K,3,H,W] of clips and their twins in turn, camera [B,K] of the world, followed until LEAD -> as `measure`, with three
    visits: when the rollout's own camera is back, if it is (and its twin's); in all of them, when the world's is; and then in columns that
    never left the view, which every memory holds."""
    true = camera - camera[:, FIRST:FIRST + 1]
    d = torch.cat([true[:, :LEAD], true[:, LEAD - 1:LEAD] + steps(video[:, LEAD - 1:]).cumsum(1)], 1)
    n = torch.arange(len(d), device=d.device)
    a, out = torch.full_like(n, FIRST), {}
    for visit, course in (("back by its own camera", d), ("when the world is back", true), ("in sight all the time", true)):
        b = course[:, LEAD:].abs().argmin(1) + LEAD
        back = course.gather(1, b[:, None])[:, 0].abs() <= BACK
        columns = absent(course, a, b, never=visit.startswith("in sight"))
        same, other, strange = (agreement(video, a, video[i], b[i], columns) for i in (n, n ^ 1, n.roll(2)))
        r = {"went": torch.ones_like(back), "back": back, "counts": back & back[n ^ 1] & (columns.sum(1) >= COLUMNS),
             "columns": columns.sum(1), "seconds": (b - a) * STEP}
        for i, m in enumerate(MEASURES):
            r[m] = torch.stack([same[i], other[i], strange[i]], 1)
        out[visit] = {k: v.cpu() for k, v in r.items()}
    at = torch.stack([a, true.abs()[:, :LEAD].argmax(1), d[:, LEAD:].abs().argmin(1) + LEAD], 1)
    return out, d, at


def twins(P, seed=0):
    """P [n,keys] of clips -> [2n,keys]: each followed by its twin, with other ridges and the landmarks of the opposite side."""
    P = P.clone()
    P[:, world.INDEX["cycle"]] = CYCLE
    Q = P.clone()
    g = torch.Generator().manual_seed(seed)
    for i in range(6):
        Q[:, world.INDEX[f"ph{i}"]] = torch.rand(len(P), generator=g) * world.TAU
    for s in range(world.SLOTS):
        for name in ("mx%d", "ms%d", "m%d0", "m%d1", "m%d2"):
            Q[:, world.INDEX[name % s]] = P[:, world.INDEX[name % ((s + 2) % world.SLOTS)]]
    return torch.stack([P, Q], 1).flatten(0, 1)


STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)  # 97.5% quantiles of Student's t, from 1 degree of freedom


def interval(x):
    """Mean and 95% interval of values (Student's: few rollouts may count)."""
    x = x.astype(float)
    free = len(x) - 1
    wide = STUDENT[free - 1] if free <= len(STUDENT) else 1.96 + 2.37 / free + 2.9 / free ** 2
    ci = wide * float(x.std(ddof=1)) / len(x) ** .5 if free > 0 else None
    return {"n": len(x), "mean": round(float(x.mean()), 3) if len(x) else None, "ci95": ci and round(ci, 3)}


def report(rows, base=None):
    """What `measure` gave, as arrays over all prompts -> counts, means with intervals, every value; with base (the same prompts and
    noise under another memory) the paired difference in rollouts that came back under both."""
    out = {}
    for visit, r in rows.items():
        k = r["counts"]
        o = {"rollouts": len(k), "went away": int(r["went"].sum()), "came back": int(r["back"].sum()), "count": int(k.sum()),
             "columns": round(float(r["columns"][k].mean()), 1) if k.any() else None, "seconds": round(float(r["seconds"][k].mean()), 2) if k.any() else None}
        for m in MEASURES:
            same, other, strange = r[m][k].T
            o[m] = {"same place": interval(same), "other places": interval(other), "memory": interval(same - other), "another prompt": interval(strange)}
            if base and visit in base and len(base[visit]["counts"]) == len(k):
                b = base[visit]
                both = k & b["counts"]
                p, q = r[m][both], b[m][both]
                o[m]["same place, against short"] = interval(p[:, 0] - q[:, 0])
                o[m]["memory, against short"] = interval((p[:, 0] - p[:, 1]) - (q[:, 0] - q[:, 1]))
            o[m]["values"] = [[round(float(z), 3) for z in row] if c else None for row, c in zip(r[m], k)]
        out[visit] = o
    return out


def tell(kind, result):
    say = lambda v: "none" if v["mean"] is None else f"{v['mean']:.2f}" + (f" ± {v['ci95']:.2f}" if v["ci95"] is not None else "")
    for visit, o in result.items():
        if isinstance(o, dict):
            print(f"{kind}, {visit}: {o['rollouts']} rollouts, {o['went away']} went away, {o['came back']} came back, {o['count']} count, {o['columns']} columns, after {o['seconds']} s")
            for m in MEASURES:
                print(f"    {m}: " + ", ".join(f"{k} {say(v)}" for k, v in o[m].items() if k != "values"), flush=True)


def pictures(video, d, at, path):
    """A row for each rollout: first view, turn, return, turn, ...; a white line under the columns that count, a mark over each view
    as far from its middle as the camera is believed to be (a quarter of the pixels)."""
    from PIL import Image
    B, n = at.shape
    i = at.clamp(min=0)
    v = torch.stack([video[torch.arange(B, device=video.device), i[:, j]] for j in range(n)], 1) * (at >= 0)[:, :, None, None, None]
    c = absent(d, i[:, 0], i[:, 2])
    for j in (0, 2):
        v[:, j, :, -4:] = torch.where(c[:, None, None], 1., v[:, j, :, -4:])
    where = (world.W / 2 + d.gather(1, i) / 4).long().clamp(3, world.W - 4)
    for b in range(B):
        for i in range(n):
            v[b, i, :, :4, where[b, i] - 3:where[b, i] + 4] = 1
    im = (v.permute(0, 3, 1, 4, 2).reshape(B * world.H, n * world.W, 3).clamp(0, 1) * 255).byte().cpu().numpy()
    Image.fromarray(im).save(path)


if __name__ == "__main__":
    import argparse
    import numpy as np
    ap = argparse.ArgumentParser()
    ap.add_argument("--prompts", type=int, default=24); ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()
    rng = np.random.default_rng(a.seed)
    specs = []
    while len(specs) < a.prompts:
        s = world.draw_spec(rng, count=1)
        if s["camera"] == "away" and s["scene"] != "sea":
            s["objects"][0].update(size="small", motion="stays"); specs.append(s)
    P, _, _ = world.sample(rng, len(specs), specs)
    K = 59
    v = torch.cat([world.render(p[None], K, stride=STRIDE) for p in P]).clamp(0, 1)
    t = torch.arange(K).float()[None] * STEP
    true = world.camera(P, t) - world.camera(P, t[:, FIRST:FIRST + 1])
    d = track(v)
    off = (d - true).abs()
    for s, o, e in zip(specs, off.amax(1), (d - true)[:, -1]):
        print(s["scene"], s["landmark"], s["time"], "worst %.1f px, at the end %+.1f" % (o, e))
    print("mean %.2f px, worst %.1f px, within 8 px in %.0f%% of the frames" % (off.mean(), off.max(), 100 * (off < 8).float().mean()))
    for what, c in (("its own camera", true), ("the estimate", None)):
        rows, _, at = measure(v, c)
        print("turns and returns", at.tolist())
        tell(what, report({n: {k: x.numpy() for k, x in r.items()} for n, r in rows.items()}))
