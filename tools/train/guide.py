"""A classifier of noisy latents, used in stage B: it tells the student which words of the prompt its clip does not show yet
(classifier guidance; Dhariwal and Nichol, arXiv 2105.05233). The judge of the evaluation is another network, trained apart from
this one, on pixels and other clips."""
import math
import torch
import torch.nn as nn
import torch.nn.functional as F
from judge import HEADS, UNSAID


class Conv(nn.Module):
    """A convolution over places, and with `time` 3 over the frame before and the frame after as well. x [B,F,C,h,w]"""
    def __init__(self, i, o, time=1, stride=1):
        super().__init__()
        self.beside = time > 1
        self.conv, self.norm = nn.Conv2d(i * time, o, 3, stride, 1, bias=False), nn.GroupNorm(8, o)

    def forward(self, x):
        if self.beside:
            none = torch.zeros_like(x[:, :1])
            x = torch.cat([torch.cat([none, x[:, :-1]], 1), x, torch.cat([x[:, 1:], none], 1)], 2)
        y = self.conv(x.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        return F.silu(self.norm(y)).unflatten(0, x.shape[:2])


class Residual(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.body = nn.Sequential(Conv(n, n), Conv(n, n, 3))

    def forward(self, x):
        return x + self.body(x)


class Look(nn.Module):
    """Frames look at frames: one layer of a transformer over the whole clip."""
    def __init__(self, d, heads=4, drop=.1):
        super().__init__()
        self.heads, self.drop = heads, drop
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)

    def forward(self, x):
        drop = lambda z: F.dropout(z, self.drop, self.training)
        q, k, v = (z.unflatten(-1, (self.heads, -1)).transpose(1, 2) for z in self.qkv(self.n1(x)).chunk(3, -1))
        x = x + drop(self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))
        return x + drop(self.down(F.silu(self.up(self.n2(x)))))


class Guide(nn.Module):
    """Space and time together while the noise is being averaged away, then what each frame shows: pooled over places (a shape is
    the same wherever it is) and by place (what moves where); then three layers in which all frames see each other ("away and
    back" needs five seconds)."""
    def __init__(self, d=320, longest=32):
        super().__init__()
        self.body = nn.Sequential(Conv(19, 96, 3), Conv(96, 128, 3, 2), Residual(128), Conv(128, 192, 1, 2), Residual(192))
        self.flat = nn.Linear(192 * 5 * 8, d)
        self.pooled = nn.Linear(2 * 192, d)
        self.place = nn.Parameter(torch.randn(1, longest, d) * .05)
        self.level = nn.Linear(17, d)
        self.time = nn.ModuleList([Look(d) for _ in range(3)])
        self.norm = nn.LayerNorm(d)
        self.heads = nn.ModuleDict({h: nn.Linear(2 * d, len(v)) for h, v in HEADS.items()})

    def forward(self, lat, level):
        """lat [B,F,16,20,32] at noise `level` [B] -> logits per head."""
        B, T, _, h, w = lat.shape
        y, x = (torch.linspace(-1, 1, n, device=lat.device) for n in (h, w))
        place = torch.stack([y[:, None].expand(h, w), x[None].expand(h, w)]).to(lat.dtype).expand(B, T, -1, -1, -1)
        s = level.to(lat.dtype).reshape(B, 1, 1, 1, 1).expand(-1, T, 1, h, w)
        z = self.body(torch.cat([lat, place, s], 2))  # [B,F,192,5,8]
        drop = lambda a, p: F.dropout(a, p, self.training)
        z = self.flat(drop(z.flatten(2), .2)) + self.pooled(drop(torch.cat([z.mean((3, 4)), z.amax((3, 4))], 2), .1))
        wave = torch.cat([level[:, None], (level[:, None] * math.pi * torch.arange(1, 17, device=level.device)).cos()], 1)
        z = F.silu(z) + self.place[:, :T] + self.level(wave)[:, None]
        for t in self.time:
            z = t(z)
        z = self.norm(z)
        z = drop(torch.cat([z.mean(1), z.amax(1)], 1), .1)
        return {k: m(z) for k, m in self.heads.items()}


def noisy(x, level):
    s = level.reshape(-1, 1, 1, 1, 1)
    return (1 - s) * x + s * torch.randn_like(x)


def loss(logits, labels):
    """Cross entropies per head [heads], 0 for a head without a label in the batch; labels [B,heads]."""
    out = []
    for i, h in enumerate(HEADS):
        l = F.cross_entropy(logits[h].float(), labels[:, i], ignore_index=UNSAID, reduction="sum")
        out.append(l / (labels[:, i] != UNSAID).sum().clamp(min=1))
    return torch.stack(out)


def right(logits, labels):
    """Share of right answers per head [heads]."""
    ok = torch.stack([logits[h].argmax(1) for h in HEADS], 1) == labels
    there = labels != UNSAID
    return (ok & there).sum(0) / there.sum(0).clamp(min=1)


if __name__ == "__main__":  # guide.py --pack FOLDER FILE: guide.part* of a folder in 8 bits; guide.py FILE FOLDER: back, ready for --cues
    import os, sys
    from safetensors.torch import load_file, save_file
    from common import load_parts, save_parts
    if sys.argv[1] == "--pack":
        out = {}
        for k, v in load_parts(sys.argv[2], "guide").items():
            if v.dim() < 2:
                out[k] = v.half()
                continue
            s = v.float().flatten(1).abs().amax(1).clamp(min=1e-8) / 127
            out[k], out[k + ".scale"] = torch.round(v.float() / s.reshape(-1, *[1] * (v.dim() - 1))).to(torch.int8).contiguous(), s
        save_file(out, sys.argv[3])
    else:
        t = load_file(sys.argv[1])
        big = {k: v.float() * t[k + ".scale"].reshape(-1, *[1] * (v.dim() - 1)) for k, v in t.items() if v.dtype == torch.int8}
        os.makedirs(sys.argv[2], exist_ok=True)
        save_parts({**{k: v for k, v in t.items() if v.dtype == torch.float16}, **{k: v.half() for k, v in big.items()}}, sys.argv[2], "guide")
        open(f"{sys.argv[2]}/guide.done", "w").close()
