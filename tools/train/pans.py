"""Real clips of a camera that goes around the panorama, as latents, for the training of memories (`train_dmd.py --pans`).
usage: pans.py OUT.pt --vae FOLDER [--clips 256] [--frames 102]"""
import argparse, glob, time
import numpy as np
import torch
import torch.nn.functional as F
from common import *
from judge import said

ap = argparse.ArgumentParser()
ap.add_argument("out"); ap.add_argument("--vae"); ap.add_argument("--clips", type=int, default=256); ap.add_argument("--frames", type=int, default=102)
a = ap.parse_args()
dev = "cuda" if torch.cuda.is_available() else "cpu"
tiny = dev == "cpu"
rng = np.random.default_rng(int(time.time()))
vae = TAEHV().to(dev).eval().to(memory_format=torch.channels_last)
ck = load_parts(a.vae) if glob.glob(f"{a.vae}/ckpt.part0") else load_model_folder(a.vae)
vae.load_state_dict(part(ck, "vae."))
if not tiny:
    world.compile_renderer()
N, T = (1, 15) if tiny else (a.clips, a.frames)
lat, masks, captions, says = [], [], [], []
while len(lat) < N:
    s = world.draw_spec(rng, count=1)
    if s["camera"] not in ("left", "right"):
        continue
    if rng.random() < .5:  # a small still object hides least
        s["objects"][0].update(size="small", motion="stays")
        if world.held_out(s):
            continue
    P, caps, _ = world.sample(rng, 1, [s])
    with torch.no_grad(), torch.autocast(dev, torch.bfloat16, enabled=not tiny):
        v = world.render(P.to(dev), 4 * T, mask=True)
        z = vae.encode(v[:, :, :3].contiguous())[0]
    m = F.avg_pool2d(v[0, :, 3][:, None], 8).reshape(T, 4, 1, *z.shape[-2:]).amax(1)
    text = world.sentence(s) if rng.random() < .5 else caps[0]
    lat.append(z.to(torch.bfloat16)); masks.append(m.to(torch.bfloat16)); captions.append(text); says.append(said(s, text))
torch.save({"latents": torch.stack(lat), "masks": torch.stack(masks), "captions": captions, "labels": torch.tensor(says)}, a.out + ".tmp")
os.replace(a.out + ".tmp", a.out)
print("pans", len(lat), "latent std %.3f" % float(torch.stack(lat).float().std()), flush=True)
