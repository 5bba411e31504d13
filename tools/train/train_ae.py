"""Stage 0: the autoencoder. usage: train_ae.py OUT SECONDS [INIT FOLDER]
Everything learns to the end (no frozen encoder); at 80% the statistics of the latents are folded into both ends, so that the
latents are normalised from then on. The result is the moving average of the weights."""
import json, math, os, sys, time
import numpy as np
import torch
from common import *

out, budget = sys.argv[1], float(sys.argv[2])
dev = "cuda" if torch.cuda.is_available() else "cpu"
tiny = dev == "cpu"
torch.backends.cudnn.benchmark = True
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
torch.manual_seed(0)
log = Log(f"{out}/log_ae.txt")
rng = np.random.default_rng(int(time.time()) if len(sys.argv) > 3 else 0)
vae = TAEHV().to(dev).to(memory_format=torch.channels_last)
if len(sys.argv) > 3:
    vae.load_state_dict(part(load_parts(sys.argv[3], "vae"), "vae."))
B, T = (1, 8) if tiny else (6, 20)
cast = lambda: torch.autocast(dev, torch.bfloat16, enabled=not tiny)
LR = 2e-3
opt = torch.optim.AdamW(vae.parameters(), lr=LR, betas=(.9, .99), weight_decay=0, fused=not tiny)
ema = EMA(vae, .999)
NOISE = .06


def batch(n=B):
    P, _, _ = world.sample(rng, n)
    return world.render(P.to(dev, non_blocking=True), T, start=torch.from_numpy(rng.uniform(0, 20, n)))


def losses(x, noise):
    z = vae.encode(x).float()
    y = vae.decode(z + NOISE * noise).float()
    d = y - x[:, :y.shape[1]]
    mse = d.pow(2).mean()
    flicker = (d[:, 1:] - d[:, :-1]).abs().mean()
    m, s = z.mean((0, 1, 3, 4)), z.var((0, 1, 3, 4))
    return d.abs().mean() + 8 * mse + .25 * flicker + .01 * (m.pow(2).mean() + (s - torch.log(s + 1e-4) - 1).mean()), mse


@torch.no_grad()
def measure(n=24):
    """PSNR on fresh clips, per clip and over all; pixels clamped, no noise on the latents."""
    e = []
    with cast():
        for _ in range(1 if tiny else n // B):
            x = batch()
            y = vae.decode(vae.encode(x).float()).float().clamp(0, 1)
            e.append((y - x[:, :y.shape[1]]).pow(2).mean((1, 2, 3, 4)))
    e = torch.cat(e)
    return -10 * math.log10(e.mean().item()), (-10 * torch.log10(e)).min().item()


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
begin, t0, step, ms, folded, saved = time.time(), None, 0, [], False, 0.0
while True:
    p = 0 if t0 is None else (time.time() - t0) / budget
    if p >= 1 or (tiny and step >= 4):
        break
    if (p > .8 or (tiny and step == 2)) and not folded:
        mean, std = statistics()
        log("latent mean", [round(v, 2) for v in mean.tolist()], "std", [round(v, 2) for v in std.tolist()])
        live = {k: v.clone() for k, v in vae.state_dict().items()}
        vae.load_state_dict(ema.state()); vae.fold(mean, std + 1e-4)
        ema.val = [q.detach().clone() for q in vae.parameters()]
        vae.load_state_dict(live); vae.fold(mean, std + 1e-4)
        folded = True
    opt.param_groups[0]["lr"] = LR * min(1, (step + 1) / 100) * (.01 + .99 * (.5 + .5 * math.cos(math.pi * max(0, (p - .1) / .9))))
    x = batch()
    with cast():
        loss, mse = step_fn(x, torch.randn(shape, device=dev))
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
psnr, worst = measure(48)
log("final psnr on fresh clips %.2f, worst clip %.2f" % (psnr, worst), "steps", step, "seconds %.0f" % (time.time() - (t0 or begin)))
json.dump({"mean": mean.tolist(), "std": std.tolist(), "psnr": psnr}, open(f"{out}/stats.json", "w"))
log("std %.2f..%.2f" % (std.min(), std.max()))
with torch.no_grad(), cast():
    x = batch()
    y = vae.decode(vae.encode(x).float()).float().clamp(0, 1)
    sheet(torch.stack([x[:, :y.shape[1]], y], 1).flatten(0, 1)[:8], f"{out}/sheet_ae.png", n=4, scale=1)
log("sheet")
