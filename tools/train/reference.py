"""Reference values in float32 from the exported folder: brute force (no cache, no padding shortcut), written apart from
the training code. usage: reference.py MODEL_FOLDER OUT_FILE"""
import glob, hashlib, json, math, os, sys
import numpy as np
import torch, torch.nn.functional as F
from diffusers import WanTransformer3DModel
from transformers import UMT5EncoderModel
from tokenizers import Tokenizer
from safetensors.torch import load_file, save_file
import world

M, out = sys.argv[1], sys.argv[2]
prompt = "a large red star bounces over hills at noon with trees while the camera pans left"
SEED, NC = 20240611, 3
torch.set_grad_enabled(False)
shards = {}
for f in sorted(glob.glob(M + "/transformer/*.safetensors")):
    shards.update({k: v.float() for k, v in load_file(f).items()})
tr = WanTransformer3DModel.from_config(WanTransformer3DModel.load_config(M + "/transformer"))
tr.load_state_dict(shards, strict=True)
tr = tr.eval()
for p in tr.parameters():
    assert p.dtype == torch.float32
te, info = UMT5EncoderModel.from_pretrained(M + "/text_encoder", dtype=torch.float32, output_loading_info=True)
print("text encoder loading:", {k: v for k, v in info.items() if v})
te = te.eval()
vae = {k: v.float() for k, v in load_file(M + "/tiny_vae/diffusion_pytorch_model.safetensors").items()}
tok = Tokenizer.from_file(M + "/tokenizer/tokenizer.json")
lt = json.load(open(M + "/longtake.json"))
steps = lt["steps"]
nh, hd = 3, 128
d = nh * hd
ids = tok.encode(prompt).ids
emb = te(torch.tensor([ids])).last_hidden_state[0]
text = torch.zeros(512, 256)
text[:len(ids)] = emb
ce = tr.condition_embedder
ctx = ce.text_embedder(text[None])[0]


def rope(nf, gh, gw):
    ax = lambda dim: 1.0 / (10000.0 ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim))
    t, y, x = (torch.outer(torch.arange(n, dtype=torch.float64), ax(k)) for n, k in ((nf, 44), (gh, 42), (gw, 42)))
    a = torch.cat([t[:, None, None].expand(nf, gh, gw, -1), y[None, :, None].expand(nf, gh, gw, -1), x[None, None].expand(nf, gh, gw, -1)], -1).reshape(nf * gh * gw, -1)
    return a.cos().float(), a.sin().float()


def rot(x, cs):
    co, si = cs
    x = x.reshape(x.shape[0], nh, hd // 2, 2)
    a, b = x[..., 0], x[..., 1]
    return torch.stack([a * co[:, None] - b * si[:, None], a * si[:, None] + b * co[:, None]], -1).reshape(x.shape[0], nh, hd)


rms = lambda x, w: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * w


def temb(t):
    f = torch.exp(-math.log(10000.0) * torch.arange(128, dtype=torch.float64) / 128) * t
    e = ce.time_embedder(torch.cat([f.cos(), f.sin()]).float()[None])[0]
    return e, ce.time_proj(F.silu(e)).reshape(6, d)


def forward(lat, times):
    """lat [16,F,h,w], a time per frame -> v; block-causal over chunks of 3."""
    Fr, h, w = lat.shape[1:]
    gh, gw = h // 2, w // 2
    S = gh * gw
    x = tr.patch_embedding(lat[None])[0].flatten(1).T
    es = [temb(t) for t in times]
    e, e0 = torch.stack([a for a, _ in es]), torch.stack([b for _, b in es])
    chunk = torch.arange(Fr * S) // (3 * S)
    mask = chunk[:, None] >= chunk[None]
    cs = rope(Fr, gh, gw)
    per = lambda m: m.repeat_interleave(S, 0)
    for b in tr.blocks:
        m = b.scale_shift_table[0][None] + e0
        sh, sc, ga, sh2, sc2, ga2 = [per(m[:, i]) for i in range(6)]
        a = F.layer_norm(x, (d,), eps=1e-6) * (1 + sc) + sh
        q, k, v = rot(rms(b.attn1.to_q(a), b.attn1.norm_q.weight), cs), rot(rms(b.attn1.to_k(a), b.attn1.norm_k.weight), cs), b.attn1.to_v(a).reshape(-1, nh, hd)
        o = F.scaled_dot_product_attention(q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1), attn_mask=mask).transpose(0, 1).reshape(-1, d)
        x = x + b.attn1.to_out[0](o) * ga
        a = F.layer_norm(x, (d,), b.norm2.weight, b.norm2.bias, 1e-6)
        q, k, v = rms(b.attn2.to_q(a), b.attn2.norm_q.weight).reshape(-1, nh, hd), rms(b.attn2.to_k(ctx), b.attn2.norm_k.weight).reshape(-1, nh, hd), b.attn2.to_v(ctx).reshape(-1, nh, hd)
        o = F.scaled_dot_product_attention(q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)).transpose(0, 1).reshape(-1, d)
        x = x + b.attn2.to_out[0](o)
        a = F.layer_norm(x, (d,), eps=1e-6) * (1 + sc2) + sh2
        x = x + b.ffn.net[2](F.gelu(b.ffn.net[0].proj(a), approximate="tanh")) * ga2
    m = tr.scale_shift_table[0][None] + e[:, None]
    x = F.layer_norm(x, (d,), eps=1e-6) * (1 + per(m[:, 1])) + per(m[:, 0])
    return tr.proj_out(x).reshape(Fr, gh, gw, 1, 2, 2, 16).permute(6, 0, 3, 1, 4, 2, 5).reshape(16, Fr, h, w)


# the tiny autoencoder, frame by frame as an engine streams it
def conv(x, name, **kw):
    return F.conv2d(x, vae[name + ".weight"], vae.get(name + ".bias"), **kw)


def mem(x, past, name):
    h = torch.relu(conv(torch.cat([x, past], 1), name + ".conv.0", padding=1))
    h = torch.relu(conv(h, name + ".conv.2", padding=1))
    return torch.relu(conv(h, name + ".conv.4", padding=1) + x)


class Decoder:
    def __init__(self):
        self.past = {}

    def block(self, x, i):
        p = self.past.get(i, torch.zeros_like(x))
        self.past[i] = x
        return mem(x, p, f"decoder.{i}")

    def stage(self, x, first, grow, s):
        for i in (first, first + 1, first + 2):
            x = self.block(x, i)
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        y = conv(x, f"decoder.{grow}.conv")
        n = y.shape[1] // s
        return [conv(y[:, j * n:(j + 1) * n], f"decoder.{grow + 1}", padding=1) for j in range(s)]

    def latent(self, z):
        """[16,h,w] -> 4 raw frames [3,H,W]"""
        x = torch.relu(conv(torch.tanh(z[None] / 3) * 3, "decoder.1", padding=1))
        out = []
        for a in self.stage(x, 3, 7, 1):
            for b in self.stage(a, 9, 13, 2):
                for c in self.stage(b, 15, 19, 2):
                    out.append(conv(torch.relu(c), "decoder.22", padding=1)[0])
        return out


def decode(lat):
    dec, frames = Decoder(), []
    for i in range(lat.shape[1]):
        frames += dec.latent(lat[:, i])
    return torch.stack(frames[3:]).clamp(0, 1)


def encode(video):
    """[T,3,H,W] -> [16,n,h,w]"""
    pad = -video.shape[0] % 4
    x = torch.cat([video, video[-1:].expand(pad, -1, -1, -1)]) if pad else video
    x = torch.relu(conv(x, "encoder.0", padding=1))
    for pool, s in ((2, 2), (7, 2), (12, 1)):
        x = conv(x.reshape(-1, s * x.shape[1], *x.shape[2:]), f"encoder.{pool}.conv")
        x = conv(x, f"encoder.{pool + 1}", padding=1, stride=2)
        for i in range(pool + 2, pool + 5):
            x = torch.cat([mem(x[j:j + 1], x[j - 1:j] if j else torch.zeros_like(x[:1]), f"encoder.{i}") for j in range(x.shape[0])])
    return conv(x, "encoder.17", padding=1).transpose(0, 1)


h, w = 20, 32
x = torch.randn(1, 16, 2, h, w, generator=torch.Generator().manual_seed(1))
a, b = forward(x[0], [437.0] * 2), tr(x, timestep=torch.tensor([437.0]), encoder_hidden_states=text[None], return_dict=False)[0][0]
print("self-check against diffusers, relative L2:", float((a - b).norm() / b.norm()))
g = torch.Generator().manual_seed(SEED)
noise = torch.randn(1, 3 * NC, 16, h, w, generator=g)[0]
ref = {"token_ids": torch.tensor(ids, dtype=torch.int32), "text_rows": emb, "initial_noise": noise, "velocity_input": x[0], "velocity_time": torch.tensor([437.0, 437.0]), "velocity": a}
clean, renoise, first = torch.zeros(16, 0, h, w), [], None
for ci in range(NC):
    xt = noise[3 * ci:3 * ci + 3].transpose(0, 1)
    for i, t in enumerate(steps):
        v = forward(torch.cat([clean, xt], 1), [0.0] * clean.shape[1] + [t] * 3)[:, -3:]
        if first is None:
            first = ref["first_velocity"] = v.clone()
        x0 = xt - t / 1000 * v
        if ci == 0 or i + 1 == len(steps):
            ref[f"chunk{ci}_step{i}_x0"] = x0.contiguous()
        if i + 1 < len(steps):
            r = torch.randn(3, 16, h, w, generator=g)
            renoise.append(r)
            s = steps[i + 1] / 1000
            xt = (1 - s) * x0 + s * r.transpose(0, 1)
    clean = torch.cat([clean, x0], 1)
ref["renoise"] = torch.stack(renoise).reshape(NC, len(steps) - 1, 3, 16, h, w)
ref["latents"] = clean
px = decode(clean[:, :3])
ref["frames"] = (px * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
P, caps, _ = world.sample(np.random.default_rng(77), 1)
clip = (world.render(P, 5)[0].clamp(0, 1) * 255).round().to(torch.uint8)
ref["encode_input"] = clip.permute(0, 2, 3, 1).contiguous()
z = encode(clip.float() / 255)
ref["encode_latents"] = z
rec = decode(z)
ref["encode_decoded"] = (rec * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
print("autoencoder on the clip, PSNR %.2f" % (-10 * math.log10((rec - clip.float() / 255).pow(2).mean())))
sha = lambda b: hashlib.sha256(b).hexdigest()
meta = {"prompt": prompt, "seed": str(SEED), "clip_caption": caps[0], "layout": "latents [16,frames,h,w]; noise [frames,16,h,w]; renoise [chunk,step,frame,16,h,w]; frames [n,H,W,3] uint8 = trunc(255*clamp)",
        "sha256_initial_noise": sha(noise.numpy().tobytes()), "sha256_renoise": sha(ref["renoise"].numpy().tobytes()), "sha256_velocity_input": sha(x[0].numpy().tobytes()),
        "sha256_encode_input": sha(ref["encode_input"].numpy().tobytes()), "sha256_token_ids": sha(ref["token_ids"].numpy().tobytes())}
for sub in ("transformer", "text_encoder", "tiny_vae", "tokenizer"):
    for f in sorted(os.listdir(f"{M}/{sub}")):
        meta[f"sha256_file_{sub}/{f}"] = sha(open(f"{M}/{sub}/{f}", "rb").read())
save_file({k: v.contiguous() for k, v in ref.items()}, out, metadata=meta)
print("latent std", float(clean.std()), "frames", tuple(ref["frames"].shape), "size", os.path.getsize(out) / 1e6, "MB")
