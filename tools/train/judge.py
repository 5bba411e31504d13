"""The judge: a small classifier of clips of the world, used for evaluation only. usage: judge.py OUT SECONDS [--deadline T]
It sees 20 frames, a quarter of a second apart, at half size, each beside the one before, and names what is to be seen of one
object and its world."""
import argparse, json, math, os, time
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import world

HEADS = dict(shape=world.SHAPES, colour=list(world.COLOURS), size=list(world.SIZES), motion=world.MOTIONS, scene=list(world.SCENES),
             time=list(world.TIMES), landmark=world.LANDMARKS, camera=world.CAMERAS)
FRAMES, STRIDE = 20, 4


def labels(spec):
    flat = {**spec["objects"][0], **{k: spec[k] for k in ("scene", "time", "landmark", "camera")}}
    return [HEADS[h].index(flat[h]) for h in HEADS]


UNSAID = -100


def said(spec, text=None):
    """Labels, but `UNSAID` for the object's where there are several objects, and for what the caption `text` leaves out."""
    out, text = labels(spec), text and text.lower()
    there = dict(colour=lambda o: [o["colour"]], size=lambda o: world.WORDS[o["size"]], time=lambda o: world.WORDS[spec["time"]],
                 landmark=lambda o: world.WORDS[spec["landmark"]])
    for i, h in enumerate(HEADS):
        if h in ("shape", "colour", "size", "motion") and len(spec["objects"]) > 1 or \
                text and h in there and not any(w in text for w in there[h](spec["objects"][0])):
            out[i] = UNSAID
    return out


class Judge(nn.Module):
    def __init__(self):
        super().__init__()
        c = lambda i, o, s=2: nn.Sequential(nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())
        self.frame = nn.Sequential(c(8, 48), c(48, 96), c(96, 128, 1), c(128, 128), c(128, 160, 1), c(160, 160))
        self.flat = nn.Linear(160 * 5 * 8, 256)
        self.time = nn.ModuleList([nn.Conv1d(256, 256, 5, padding=2), nn.Conv1d(256, 256, 5, padding=4, dilation=2)])
        self.heads = nn.ModuleDict({h: nn.Linear(512, len(v)) for h, v in HEADS.items()})

    def forward(self, video):
        """[B,20,3,H,W] in 0..1 -> logits per head"""
        B, T = video.shape[:2]
        x = (F.avg_pool2d(video.flatten(0, 1), 2) * 2 - 1).unflatten(0, (B, T))
        y, z = (torch.linspace(-1, 1, n, device=x.device) for n in x.shape[-2:])
        place = torch.stack([y[:, None].expand(len(y), len(z)), z[None].expand(len(y), len(z))])
        x = torch.cat([x[:, 1:], x[:, :-1], place.expand(B, T - 1, -1, -1, -1).to(x.dtype)], 2)
        x = self.frame(x.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        x = F.relu(self.flat(x.flatten(1))).reshape(B, T - 1, -1).transpose(1, 2)
        for t in self.time:
            x = x + F.relu(t(x))
        x = torch.cat([x.mean(2), x.amax(2)], 1)
        return {h: m(x) for h, m in self.heads.items()}


def load(path, dev="cpu"):
    """The trained judge, and what its file says of it: `fresh`, its accuracy on `clips` real clips."""
    d = torch.load(path, map_location=dev)
    net = Judge().to(dev)
    net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in d.pop("net").items()})
    return net.eval(), d


def wilson(k, n, z=1.96):
    """k of n -> per cent, and its 95% interval."""
    p = k / n
    m, d = (p + z * z / (2 * n)) / (1 + z * z / n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return [round(100 * x, 1) for x in (p, m - d, m + d)]


def confusion(y, r, h):
    """y and r [B,heads], said and seen -> rows of what was said."""
    i, n = list(HEADS).index(h), len(HEADS[h])
    return torch.bincount(y[:, i] * n + r[:, i], minlength=n * n).reshape(n, n).tolist()


def verdict(y, r, looks):
    """y and r [B,heads], looks [B,3] -> agreement with the prompts as `report.py` reads it; right: a 1 for each prompt that is followed."""
    hit, told = r == y, (y != UNSAID).all(0).tolist()
    return {"prompts": len(y), **{k: wilson(int(hit[:, i].sum()), len(y)) for i, k in enumerate(HEADS) if told[i]},
            "brightness, contrast, saturation": [round(float(z), 4) for z in looks.mean(0)],
            "right": {k: "".join("01"[int(x)] for x in hit[:, i]) for i, k in enumerate(HEADS) if told[i]},
            "confusion": {h: confusion(y, r, h) for h in ("shape", "motion", "landmark", "camera") if told[list(HEADS).index(h)]}}


def looks(v):
    """[B,T,3,H,W] -> brightness, contrast and saturation [B,3]"""
    return torch.stack([v.mean((1, 2, 3, 4)), v.mean(2).flatten(1).std(1), (v.amax(2) - v.amin(2)).mean((1, 2, 3))], 1)


def real(rng, n, dev, specs=None):
    specs = specs or [world.draw_spec(rng, held=bool(rng.random() < .2), count=1) for _ in range(n)]
    P, _, _ = world.sample(rng, len(specs), specs)
    v = world.render(P.to(dev, non_blocking=True), FRAMES, start=torch.from_numpy(rng.uniform(0, 20, len(specs))), stride=STRIDE)
    return v, torch.tensor([labels(s) for s in specs]).to(dev, non_blocking=True)


def spoil(v):
    """Blur, noise and a change of brightness, so that small faults of a generated picture do not decide."""
    B = v.shape[0]
    dev = v.device
    low = F.avg_pool2d(F.pad(v.flatten(0, 1), (2, 2, 2, 2), mode="replicate"), 5, 1).reshape(v.shape)
    w = torch.rand(B, 1, 1, 1, 1, device=dev)
    v = v + (low - v) * w
    coarse = F.interpolate(torch.randn(B * v.shape[1], 3, 10, 16, device=dev), size=v.shape[-2:], mode="bilinear").reshape(v.shape)
    v = v + coarse * .06 * torch.rand(B, 1, 1, 1, 1, device=dev) + torch.randn_like(v) * .03 * torch.rand(B, 1, 1, 1, 1, device=dev)
    return v * (1 + .1 * torch.randn(B, 1, 1, 1, 1, device=dev))


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("out"); ap.add_argument("seconds", type=float); ap.add_argument("--deadline", type=float, default=0)
    a = ap.parse_args()
    dev = "cuda" if torch.cuda.is_available() else "cpu"
    tiny = dev == "cpu"
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    os.makedirs(a.out, exist_ok=True)
    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    net = Judge().to(dev).to(memory_format=torch.channels_last)
    opt = torch.optim.AdamW(net.parameters(), lr=1.5e-3, weight_decay=.02, fused=not tiny)
    B = 2 if tiny else 64
    if not tiny:
        world.compile_renderer()
    real(rng, B, dev)
    t0, step, hist = time.time(), 0, []
    end = a.deadline or t0 + a.seconds
    while time.time() < end and not (tiny and step >= 3):
        p = (time.time() - t0) / (end - t0)
        opt.param_groups[0]["lr"] = 1.5e-3 * min(1, (step + 1) / 100) * (.01 + .99 * (.5 + .5 * math.cos(math.pi * p)))
        with torch.no_grad():
            v, y = real(rng, B, dev)
            v = spoil(v)
        with torch.autocast(dev, torch.bfloat16, enabled=not tiny):
            out = net(v)
        loss = sum(F.cross_entropy(out[h].float(), y[:, i]) for i, h in enumerate(HEADS))
        opt.zero_grad(set_to_none=True)
        loss.backward()
        opt.step()
        hist.append(loss.detach())
        step += 1
        if step % (1 if tiny else 200) == 0:
            print("judge step", step, "loss %.3f" % torch.stack(hist).mean().item(), "%.0f s" % (time.time() - t0), flush=True); hist = []
    net.eval()
    right, n = torch.zeros(len(HEADS), device=dev), 0
    rng = np.random.default_rng(2)
    with torch.no_grad():
        for _ in range(1 if tiny else 24):
            v, y = real(rng, B, dev)
            out = net(v)
            right += torch.stack([(out[h].argmax(1) == y[:, i]).float().sum() for i, h in enumerate(HEADS)])
            n += B
    acc = {h: round(100 * float(r) / n, 2) for h, r in zip(HEADS, right)}
    print("judge on", n, "fresh real clips:", acc, "steps", step, flush=True)
    torch.save({"net": {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}, "fresh": acc, "clips": n}, f"{a.out}/judge.pt")
