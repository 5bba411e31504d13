"""Stage 0: the autoencoder. usage: train_ae.py OUT SECONDS [--init FOLDER] [--lr R] [--deadline T]
Everything learns to the end (no frozen encoder); at 80% (with --init, at 50%) the statistics of the latents are folded into both
ends, so that the latents are normalised from then on. From there the loss is little more than the squared error. The result is the
moving average of the weights. --init goes on from a checkpoint or a model; the encoder then learns at half the rate."""
import argparse, glob, json, math, os, sys, time
import numpy as np
import torch
from common import *

ap = argparse.ArgumentParser()
ap.add_argument("out"); ap.add_argument("seconds", type=float); ap.add_argument("--init"); ap.add_argument("--lr", type=float, default=2e-3)
ap.add_argument("--deadline", type=float, default=0, help="time of day (seconds since 1970) at which training ends, in place of SECONDS")
a = ap.parse_args()
out, budget = a.out, a.seconds
os.makedirs(out, exist_ok=True)
dev = "cuda" if torch.cuda.is_available() else "cpu"
tiny = dev == "cpu"
torch.backends.cudnn.benchmark = True
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
torch.manual_seed(0)
log = Log(f"{out}/log_ae.txt")
rng = np.random.default_rng(int(time.time()) if a.init else 0)
vae = TAEHV().to(dev).to(memory_format=torch.channels_last)
if a.init:
    vae.load_state_dict(part(load_parts(a.init, "vae") or load_parts(a.init) or load_model_folder(a.init), "vae."))
B, T = (1, 8) if tiny else (6, 20)
cast = lambda: torch.autocast(dev, torch.bfloat16, enabled=not tiny)
LR, FOLD = a.lr, .5 if a.init else .8
opt = torch.optim.AdamW([{"params": vae.encoder.parameters()}, {"params": vae.decoder.parameters()}], lr=LR, betas=(.9, .99), weight_decay=0, fused=not tiny)
ema = EMA(vae, .999)
NOISE = .06


def batch(n=B):
    P, _, _ = world.sample(rng, n)
    return world.render(P.to(dev, non_blocking=True), T, start=torch.from_numpy(rng.uniform(0, 20, n)))


def losses(x, noise, square):
    z = vae.encode(x).float()
    y = vae.decode(z + NOISE * noise).float()
    d = y - x[:, :y.shape[1]]
    mse = d.pow(2).mean()
    flicker = (d[:, 1:] - d[:, :-1]).abs().mean()
    m, s = z.mean((0, 1, 3, 4)), z.var((0, 1, 3, 4))
    return (1 - .7 * square) * d.abs().mean() + (8 + 32 * square) * mse + .25 * flicker + .01 * (m.pow(2).mean() + (s - torch.log(s + 1e-4) - 1).mean()), mse


@torch.no_grad()
def measure(n=96):
    """PSNR on clips that training did not draw: over all, of the worst clip, of the median clip; pixels clamped, no noise."""
    r, e = np.random.default_rng(123), []
    with cast():
        for _ in range(1 if tiny else n // B):
            P, _, _ = world.sample(r, B)
            x = world.render(P.to(dev), T, start=torch.from_numpy(r.uniform(0, 20, B)))
            y = vae.decode(vae.encode(x).float()).float().clamp(0, 1)
            e.append((y - x[:, :y.shape[1]]).pow(2).mean((1, 2, 3, 4)))
    e = -10 * torch.log10(torch.cat(e))
    return -10 * math.log10((10 ** (-e / 10)).mean().item()), e.min().item(), e.median().item()


@torch.no_grad()
def statistics():
    with cast():
        z = torch.cat([vae.encode(batch()).float().flatten(0, 1) for _ in range(2 if tiny else 30)])
    return z.mean((0, 2, 3)), z.std((0, 2, 3))


def save():
    save_parts({"vae." + k: v for k, v in ema.state().items()}, out, "vae")


step_fn = losses
if not tiny:
    world.compile_renderer()
    step_fn = torch.compile(losses, dynamic=False)
shape = (B, T // 4, 16, world.H // 8, world.W // 8)
if a.init:
    log("before: psnr %.2f, worst clip %.2f, median clip %.2f" % measure())
begin, t0, step, ms, folded, saved = time.time(), None, 0, [], False, 0.0
while True:
    p = 0 if t0 is None else (time.time() - t0) / (max(1, a.deadline - t0) if a.deadline else budget)
    if p >= 1 or (tiny and step >= 4):
        break
    if (p > FOLD or (tiny and step == 2)) and not folded:
        mean, std = statistics()
        log("latent mean", [round(v, 2) for v in mean.tolist()], "std", [round(v, 2) for v in std.tolist()])
        live = {k: v.clone() for k, v in vae.state_dict().items()}
        vae.load_state_dict(ema.state()); vae.fold(mean, std + 1e-4)
        ema.val = [q.detach().clone() for q in vae.parameters()]
        vae.load_state_dict(live); vae.fold(mean, std + 1e-4)
        folded = True
    for g, k in zip(opt.param_groups, (.5 if a.init else 1, 1)):
        g["lr"] = k * LR * min(1, (step + 1) / 100) * (.01 + .99 * (.5 + .5 * math.cos(math.pi * max(0, (p - .1) / .9))))
    x = batch()
    with cast():
        loss, mse = step_fn(x, torch.randn(shape, device=dev), torch.full((), min(1., max(0., (p - FOLD) * 5)), device=dev))
    opt.zero_grad(set_to_none=True)
    loss.backward()
    clip_gpu(list(vae.parameters()), 1.0)
    opt.step(); ema.step()
    ms.append(mse.detach())
    step += 1
    if step == 6:
        if not tiny:
            torch.cuda.synchronize()
        log("warm after %.0f s" % (time.time() - begin), "peak GB", torch.cuda.max_memory_allocated() / 1e9 if not tiny else "")
        t0 = time.time()
    if step % (1 if tiny else 500) == 0:
        log("step", step, "psnr %.2f (noisy latents)" % (-10 * math.log10(torch.stack(ms).mean().item()))); ms = []
    if t0 and time.time() - t0 > saved + 100:
        save(); saved = time.time() - t0
vae.load_state_dict(ema.state())
mean, std = statistics()
save()
psnr, worst, median = measure()
log("final psnr on 96 fresh clips %.2f, worst clip %.2f, median clip %.2f" % (psnr, worst, median), "steps", step, "seconds %.0f" % (time.time() - (t0 or begin)))
json.dump({"mean": mean.tolist(), "std": std.tolist(), "psnr": psnr, "worst": worst, "median": median, "clips": 96}, open(f"{out}/stats.json", "w"))
log("std %.2f..%.2f" % (std.min(), std.max()))
with torch.no_grad(), cast():
    x = batch()
    y = vae.decode(vae.encode(x).float()).float().clamp(0, 1)
    sheet(torch.stack([x[:, :y.shape[1]], y], 1).flatten(0, 1)[:8], f"{out}/sheet_ae.png", n=4, scale=1)
log("sheet")
