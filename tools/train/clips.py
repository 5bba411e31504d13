"""Encoded clips of the world, without end, for whoever learns from them (`train_guide.py`, `recall.py`): files FOLDER/*.clips with
latents, labels, the numbers of the clips, captions and masks of the objects, taken by their reader and deleted. Several of these may
write into one folder, one per card. Runs until FOLDER/stop is there.

With --loops SHARE the clips begin at their beginning, and in that share of them the camera swings away and comes back.

usage: clips.py FOLDER --vae FOLDER [--clips 32] [--frames 24] [--ahead 12] [--loops .85]"""
import argparse, glob, multiprocessing, os, time
import numpy as np
import torch
import torch.nn.functional as F
from common import *
from judge import said

ap = argparse.ArgumentParser()
ap.add_argument("folder"); ap.add_argument("--vae"); ap.add_argument("--clips", type=int, default=32, help="of a file")
ap.add_argument("--frames", type=int, default=24, help="latent frames of a clip"); ap.add_argument("--ahead", type=int, default=12, help="files that may wait")
ap.add_argument("--deadline", type=float, default=0); ap.add_argument("--loops", type=float, default=0)


def draw(seed, n, q, loops):
    """Numbers of clips, labels, beginnings and captions, drawn on a core of its own: one object in most of them, never a held-out
    combination."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    while True:
        specs = [world.draw_spec(rng, count=1 if rng.random() < .85 else None) for _ in range(n)]
        for s in specs if loops else []:
            s["camera"] = "away" if rng.random() < loops else world.pick(rng, ("still", "left", "right"))
        rows = np.array([[float(r[k]) for k in world.KEYS] for r in (world.parameters(rng, s) for s in specs)], np.float32)
        words = [world.sentence(s) if rng.random() < .5 else world.caption(rng, s) for s in specs]
        q.put((rows, np.array([said(s) for s in specs]), np.zeros(n) if loops else rng.uniform(0, 20, n), words))


def main():
    a = ap.parse_args()
    dev = "cuda" if torch.cuda.is_available() else "cpu"
    tiny = dev == "cpu"
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    os.makedirs(a.folder, exist_ok=True)
    N, T = (2, min(12, a.frames)) if tiny else (a.clips, a.frames)
    seed = int(time.time() * 1000) % (1 << 31) + os.getpid()
    q = multiprocessing.Queue(8)
    for i in range(1 if tiny else 4):
        multiprocessing.Process(target=draw, args=(seed + i, N, q, a.loops), daemon=True).start()
    vae = TAEHV().to(dev).eval().requires_grad_(False)
    ck = load_parts(a.vae) if glob.glob(f"{a.vae}/ckpt.part0") else load_model_folder(a.vae)
    vae.load_state_dict(part(ck, "vae."))
    encode = vae.encode
    if not tiny:
        vae = vae.to(torch.bfloat16).to(memory_format=torch.channels_last)
        world.compile_renderer(256)
        encode = torch.compile(vae.encode, dynamic=False)
    begin, made, t0, told, stop = time.time(), 0, 0, 0, f"{a.folder}/stop"
    while not os.path.exists(stop) and not (a.deadline and time.time() > a.deadline) and not (tiny and made >= 12):
        if len(glob.glob(f"{a.folder}/*.clips")) >= a.ahead:
            time.sleep(.01)
            continue
        rows, labels, starts, words = q.get()
        with torch.no_grad():
            P, starts, z, hide = torch.from_numpy(rows).to(dev), torch.from_numpy(starts), [], []
            for i in range(0, N, 8):  # a few at a time: frames at full size are large
                v = world.render(P[i:i + 8], 4 * T, start=starts[i:i + 8], mask=True)
                m = F.avg_pool2d(v[:, :, 3], 8)
                hide.append(m.unflatten(1, (T, 4)).amax(2)[:, :, None])
                v = v[:, :, :3]
                z += [encode(x.to(vae.encoder[0].weight.dtype).contiguous()) for x in v.split(max(1, 96 // T))]
            z, hide = (torch.cat(x).to(torch.bfloat16).cpu() for x in (z, hide))
        name = f"{a.folder}/{os.getpid()}_{made:08d}"
        torch.save((z, torch.from_numpy(labels), torch.from_numpy(rows), words, hide), name + ".tmp")
        os.replace(name + ".tmp", name + ".clips")
        made += N
        if not t0:
            t0 = time.time()
            print("first clips after %.0f s" % (t0 - begin), "latent std %.3f" % float(z.float().std()), flush=True)
        elif time.time() - t0 > told + 20:
            told = time.time() - t0
            print(made, "clips, %.1f a second" % ((made - N) / told), flush=True)
    print("made", made, "clips", flush=True)


if __name__ == "__main__":
    main()
