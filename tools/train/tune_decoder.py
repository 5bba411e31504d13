"""The decoder alone, on the latents of the frozen encoder: nothing above the autoencoder has to start again.
usage: tune_decoder.py OUT SECONDS --init FOLDER [--deadline T]"""
import argparse, glob, json, math, os, time
import numpy as np
import torch
from common import *

ap = argparse.ArgumentParser()
ap.add_argument("out"); ap.add_argument("seconds", type=float); ap.add_argument("--init"); ap.add_argument("--deadline", type=float, default=0)
ap.add_argument("--lr", type=float, default=1e-3)
a = ap.parse_args()
dev = "cuda" if torch.cuda.is_available() else "cpu"
tiny = dev == "cpu"
torch.backends.cudnn.benchmark = True
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
os.makedirs(a.out, exist_ok=True)
log = Log(f"{a.out}/log_decoder.txt")
rng = np.random.default_rng(int(time.time()))
torch.manual_seed(int(time.time()))
vae = TAEHV().to(dev).to(memory_format=torch.channels_last)
ck = load_parts(a.init, "vae") or load_parts(a.init) or load_model_folder(a.init)
vae.load_state_dict(part(ck, "vae."))
vae.encoder.requires_grad_(False)
params = list(vae.decoder.parameters())
opt = torch.optim.AdamW(params, lr=a.lr, betas=(.9, .99), weight_decay=0, fused=not tiny)
ema = EMA(vae.decoder, .998)
B, T = (1, 8) if tiny else (6, 20)
cast = lambda: torch.autocast(dev, torch.bfloat16, enabled=not tiny)


def batch(n=B):
    P, _, _ = world.sample(rng, n)
    return world.render(P.to(dev, non_blocking=True), T, start=torch.from_numpy(rng.uniform(0, 20, n)))


def losses(z, x):
    y = vae.decode(z).float()
    d = y - x[:, :y.shape[1]]
    mse = d.pow(2).mean()
    return d.abs().mean() + 8 * mse + .25 * (d[:, 1:] - d[:, :-1]).abs().mean(), mse


@torch.no_grad()
def measure(n=96):
    r, e = np.random.default_rng(123), []
    with cast():
        for _ in range(1 if tiny else n // B):
            P, _, _ = world.sample(r, B)
            x = world.render(P.to(dev), T, start=torch.from_numpy(r.uniform(0, 20, B)))
            y = vae.decode(vae.encode(x).float()).float().clamp(0, 1)
            e.append((y - x[:, :y.shape[1]]).pow(2).mean((1, 3, 4)).mean(1))
    e = torch.cat(e)
    return -10 * math.log10(e.mean().item()), (-10 * torch.log10(e)).min().item(), (-10 * torch.log10(e)).median().item()


step_fn, encode_fn = losses, vae.encode
if not tiny:
    world.compile_renderer()
    step_fn, encode_fn = torch.compile(losses, dynamic=False), torch.compile(vae.encode, dynamic=False)
log("before: psnr %.2f, worst clip %.2f, median clip %.2f" % measure())
begin, t0, step, ms = time.time(), None, 0, []
while True:
    now = time.time()
    p = 0 if t0 is None else (now - t0) / (a.deadline - t0 if a.deadline else a.seconds)
    if p >= 1 or (tiny and step >= 3) or (a.deadline and now > a.deadline):
        break
    opt.param_groups[0]["lr"] = a.lr * min(1, (step + 1) / 50) * (.01 + .99 * (.5 + .5 * math.cos(math.pi * p)))
    x = batch()
    with cast():
        with torch.no_grad():
            z = encode_fn(x).float()
            z = z + torch.randn_like(z) * torch.rand(B, 1, 1, 1, 1, device=dev) * .1
        loss, mse = step_fn(z, x)
    opt.zero_grad(set_to_none=True)
    loss.backward()
    clip_gpu(params, 1.0)
    opt.step(); ema.step()
    ms.append(mse.detach())
    step += 1
    if step == 5:
        if not tiny:
            torch.cuda.synchronize()
        log("warm after %.0f s" % (time.time() - begin)); t0 = time.time()
    if step % (1 if tiny else 500) == 0:
        log("step", step, "psnr %.2f (noisy latents)" % (-10 * math.log10(torch.stack(ms).mean().item()))); ms = []
vae.decoder.load_state_dict(ema.state())
save_parts({"vae." + k: v for k, v in vae.state_dict().items()}, a.out, "vae")
m = measure()
log("after: psnr %.2f, worst clip %.2f, median clip %.2f" % m, "steps", step)
json.dump({"psnr": m[0], "worst": m[1], "median": m[2], "clips": 96}, open(f"{a.out}/decoder.json", "w"))
with torch.no_grad(), cast():
    x = batch()
    y = vae.decode(vae.encode(x).float()).float().clamp(0, 1)
    sheet(torch.stack([x[:, :y.shape[1]], y], 1).flatten(0, 1)[:6], f"{a.out}/sheet_decoder.png", n=4, scale=1)
