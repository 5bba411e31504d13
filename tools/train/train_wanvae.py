"""A decoder (and an encoder) of the Wan 2.1 architecture at small width on the latents of the frozen small autoencoder.
usage: train_wanvae.py OUT SECONDS --vae FOLDER [--deadline T]

The decoder learns the pixels, the encoder the latents; the small autoencoder's latent sees three frames that a Wan encoder has not
seen yet, so the encoder can only guess motion. Writes OUT/vae/ in the diffusers layout and OUT/wanvae.json."""
import argparse, glob, json, math, os, time
import numpy as np
import torch
from safetensors.torch import save_file
from common import *
import wan_vae

ap = argparse.ArgumentParser()
ap.add_argument("out"); ap.add_argument("seconds", type=float); ap.add_argument("--vae"); ap.add_argument("--deadline", type=float, default=0)
ap.add_argument("--lr", type=float, default=2e-3)
a = ap.parse_args()
dev = "cuda" if torch.cuda.is_available() else "cpu"
tiny = dev == "cpu"
torch.backends.cudnn.benchmark = True
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
os.makedirs(a.out + "/vae", exist_ok=True)
log = Log(f"{a.out}/log_wanvae.txt")
rng = np.random.default_rng(int(time.time()))
torch.manual_seed(int(time.time()))
tiny_vae = TAEHV().to(dev).eval().requires_grad_(False).to(memory_format=torch.channels_last)
ck = load_parts(a.vae) if glob.glob(f"{a.vae}/ckpt.part0") else load_model_folder(a.vae)
tiny_vae.load_state_dict(part(ck, "vae."))
net = wan_vae.WanVAE().to(dev)
opt = torch.optim.AdamW(net.parameters(), lr=a.lr, betas=(.9, .99), weight_decay=0, fused=not tiny)
ema = EMA(net, .998)
B, T = (1, 8) if tiny else (4, 16)
cast = lambda: torch.autocast(dev, torch.bfloat16, enabled=not tiny)


def batch(r=rng, n=B):
    P, _, _ = world.sample(r, n)
    return world.render(P.to(dev, non_blocking=True), T, start=torch.from_numpy(r.uniform(0, 20, n)))


def losses(x, z):
    y = net.decode(z + torch.randn_like(z) * .05).float()
    d = y - x[:, :y.shape[1]]
    mse = d.pow(2).mean()
    e = (net.encode(x[:, :T - 3]).float() - z).pow(2).mean()
    return d.abs().mean() + 8 * mse + .25 * (d[:, 1:] - d[:, :-1]).abs().mean() + .1 * e, mse, e


@torch.no_grad()
def measure(n=96):
    r, e, l = np.random.default_rng(123), [], []
    with cast():
        for _ in range(1 if tiny else n // B):
            x = batch(r)
            z = tiny_vae.encode(x).float()
            y = net.decode(z).float().clamp(0, 1)
            e.append((y - x[:, :y.shape[1]]).pow(2).mean((1, 2, 3, 4))); l.append((net.encode(x[:, :T - 3]).float() - z).pow(2).mean((1, 2, 3, 4)))
    e, l = torch.cat(e), torch.cat(l)
    return {"psnr": round(-10 * math.log10(e.mean().item()), 2), "worst": round((-10 * torch.log10(e)).min().item(), 2),
            "median": round((-10 * torch.log10(e)).median().item(), 2), "clips": len(e), "latent error of the encoder": round(l.mean().sqrt().item(), 3)}


step_fn, encode_fn = losses, tiny_vae.encode
if not tiny:
    world.compile_renderer()
    step_fn, encode_fn = torch.compile(losses, dynamic=False), torch.compile(tiny_vae.encode, dynamic=False)
begin, t0, step, ms = time.time(), None, 0, []
while True:
    now = time.time()
    p = 0 if t0 is None else (now - t0) / (a.deadline - t0 if a.deadline else a.seconds)
    if p >= 1 or (tiny and step >= 2) or (a.deadline and now > a.deadline):
        break
    opt.param_groups[0]["lr"] = a.lr * min(1, (step + 1) / 100) * (.01 + .99 * (.5 + .5 * math.cos(math.pi * p)))
    x = batch()
    with cast():
        with torch.no_grad():
            z = encode_fn(x).float()
        loss, mse, e = step_fn(x, z)
    opt.zero_grad(set_to_none=True)
    loss.backward()
    clip_gpu(list(net.parameters()), 1.0)
    opt.step(); ema.step()
    ms.append(torch.stack([mse.detach(), e.detach()]))
    step += 1
    if step == 5:
        if not tiny:
            torch.cuda.synchronize()
        log("warm after %.0f s" % (time.time() - begin)); t0 = time.time()
    if step % (1 if tiny else 200) == 0:
        m = torch.stack(ms).mean(0).tolist(); ms = []
        log("step", step, "psnr %.2f (noisy latents), latents off %.3f" % (-10 * math.log10(m[0]), m[1] ** .5))
net.load_state_dict(ema.state())
save_file({k: v.half().contiguous() for k, v in net.state_dict().items()}, f"{a.out}/vae/diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
json.dump(wan_vae.CONFIG(8, 12), open(f"{a.out}/vae/config.json", "w"), indent=2)
m = measure() | {"steps": step}
json.dump(m, open(f"{a.out}/wanvae.json", "w"))
log("after", m)
with torch.no_grad(), cast():
    x = batch()
    y = net.decode(tiny_vae.encode(x).float()).float().clamp(0, 1)
    sheet(torch.stack([x[:, :y.shape[1]], y], 1).flatten(0, 1)[:6], f"{a.out}/sheet_wanvae.png", n=4, scale=1)
