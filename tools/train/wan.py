"""The Wan 2.1 transformer and the UMT5 encoder with the tensor names of diffusers and transformers, for training.
Self-attention comes in three forms: bidirectional, teacher forcing (clean and noisy copy of a clip side by side),
and one chunk against a key/value memory."""
import functools
import math
import torch
import torch.nn as nn
import torch.nn.functional as F

CHUNK, WINDOW, TEXT_ROWS, LMAX = 3, 21, 512, 64


# ---------------------------------------------------------------- text

class RMS(nn.Module):
    def __init__(self, n, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))
        self.eps = eps

    def forward(self, x):
        y = x.float()
        return y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class T5Attention(nn.Module):
    def __init__(self, d, heads, dk):
        super().__init__()
        self.heads, self.dk = heads, dk
        self.q, self.k, self.v = (nn.Linear(d, heads * dk, bias=False) for _ in range(3))
        self.o = nn.Linear(heads * dk, d, bias=False)
        self.relative_attention_bias = nn.Embedding(32, heads)


class T5SelfLayer(nn.Module):
    def __init__(self, d, heads, dk):
        super().__init__()
        self.SelfAttention = T5Attention(d, heads, dk)
        self.layer_norm = RMS(d)


class T5Gated(nn.Module):
    def __init__(self, d, f):
        super().__init__()
        self.wi_0, self.wi_1, self.wo = nn.Linear(d, f, bias=False), nn.Linear(d, f, bias=False), nn.Linear(f, d, bias=False)


class T5FFLayer(nn.Module):
    def __init__(self, d, f):
        super().__init__()
        self.DenseReluDense = T5Gated(d, f)
        self.layer_norm = RMS(d)


class T5Block(nn.Module):
    def __init__(self, d, heads, dk, f):
        super().__init__()
        self.layer = nn.ModuleList([T5SelfLayer(d, heads, dk), T5FFLayer(d, f)])


class T5Stack(nn.Module):
    def __init__(self, d, heads, dk, f, layers):
        super().__init__()
        self.block = nn.ModuleList([T5Block(d, heads, dk, f) for _ in range(layers)])
        self.final_layer_norm = RMS(d)


def bucket(n):
    r = torch.arange(n)[None] - torch.arange(n)[:, None]
    a = r.abs()
    far = 8 + (torch.log(a.clamp(min=1).float() / 8) / math.log(16) * 8).floor().long()
    return torch.where(a < 8, a, far.clamp(max=15)) + (r > 0) * 16


class UMT5(nn.Module):
    def __init__(self, vocab, d=256, heads=4, dk=64, f=512, layers=2):
        super().__init__()
        self.shared = nn.Embedding(vocab, d)
        self.encoder = T5Stack(d, heads, dk, f, layers)
        nn.init.normal_(self.shared.weight, 0, 1.0)
        for b in self.encoder.block:
            a, g = b.layer[0].SelfAttention, b.layer[1].DenseReluDense
            nn.init.normal_(a.q.weight, 0, (d * dk) ** -.5)
            nn.init.normal_(a.k.weight, 0, d ** -.5)
            nn.init.normal_(a.v.weight, 0, d ** -.5)
            nn.init.normal_(a.o.weight, 0, (heads * dk) ** -.5)
            nn.init.normal_(a.relative_attention_bias.weight, 0, .05)
            nn.init.normal_(g.wi_0.weight, 0, d ** -.5)
            nn.init.normal_(g.wi_1.weight, 0, d ** -.5)
            nn.init.normal_(g.wo.weight, 0, f ** -.5)
        self.register_buffer("buckets", bucket(LMAX), persistent=False)

    def forward(self, ids, length):
        """ids [B,L], length [B] -> [B,L,d]; rows past the length are zero."""
        B, L = ids.shape
        x = self.shared(ids).float()
        keep = torch.arange(L, device=ids.device)[None] < length[:, None]
        bias0 = torch.where(keep, 0.0, -1e9)[:, None, None]
        for b in self.encoder.block:
            a, g = b.layer[0].SelfAttention, b.layer[1].DenseReluDense
            n = b.layer[0].layer_norm(x)
            q, k, v = (m(n).reshape(B, L, a.heads, a.dk).transpose(1, 2).float() for m in (a.q, a.k, a.v))
            s = q @ k.transpose(-1, -2) + a.relative_attention_bias(self.buckets[:L, :L]).permute(2, 0, 1)[None] + bias0
            x = x + a.o((s.softmax(-1) @ v).transpose(1, 2).reshape(B, L, -1)).float()
            n = b.layer[1].layer_norm(x)
            x = x + g.wo(F.gelu(g.wi_0(n), approximate="tanh") * g.wi_1(n)).float()
        return self.encoder.final_layer_norm(x) * keep[..., None]


# ---------------------------------------------------------------- transformer

class Attention(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.to_q, self.to_k, self.to_v = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
        self.to_out = nn.ModuleList([nn.Linear(d, d), nn.Identity()])
        self.norm_q, self.norm_k = RMS(d), RMS(d)


class GELUProj(nn.Module):
    def __init__(self, d, f):
        super().__init__()
        self.proj = nn.Linear(d, f)


class FeedForward(nn.Module):
    def __init__(self, d, f):
        super().__init__()
        self.net = nn.ModuleList([GELUProj(d, f), nn.Identity(), nn.Linear(f, d)])


def ln(x, w=None, b=None):
    return F.layer_norm(x.float(), (x.shape[-1],), w, b, 1e-6)


def rot(x, ct, st, cs, ss):
    """x [F,S,H,128] f32, interleaved pairs: 22 turned by the frame (ct, st [F,22]), 42 by the place (cs, ss [S,42])."""
    F_, S = x.shape[:2]
    c = torch.cat([ct[:, None].expand(F_, S, -1), cs[None].expand(F_, S, -1)], -1)[:, :, None]
    s = torch.cat([st[:, None].expand(F_, S, -1), ss[None].expand(F_, S, -1)], -1)[:, :, None]
    y = x.reshape(*x.shape[:-1], -1, 2)
    a, b = y[..., 0], y[..., 1]
    return torch.stack([a * c - b * s, a * s + b * c], -1).reshape(x.shape)


def turn(k, frames):
    """Keys of one chunk [B,Fr*S,H,128] turned on in time by `frames` [Fr] (whole numbers, negative ones back), or pages
    [B,H,n,tokens,128] by `frames` [B,H,n]: the first 44 channels, 22 interleaved pairs."""
    w = 10000.0 ** (-torch.arange(22, dtype=torch.float32, device=k.device) * 2 / 44)
    a = frames[..., None].float() * w
    if frames.dim() == 1:
        y = k.reshape(k.shape[0], frames.shape[0], -1, *k.shape[-2:])
        a = a[:, None, None]
    else:
        y, a = k, a[..., None, :]
    z = y[..., :44].float().unflatten(-1, (22, 2))
    c, s = a.cos(), a.sin()
    z = torch.stack([z[..., 0] * c - z[..., 1] * s, z[..., 0] * s + z[..., 1] * c], -1).flatten(-2)
    return torch.cat([z.to(k.dtype), y[..., 44:]], -1).reshape(k.shape)


class Block(nn.Module):
    """Everything here works on single frames, x [F,S,d]: whatever clips the frames belong to, the shapes are the same, and
    one compilation serves all of training. Only the attention between `pre` and `post` knows about clips."""
    def __init__(self, d, f, heads):
        super().__init__()
        self.heads = heads
        self.attn1, self.attn2 = Attention(d), Attention(d)
        self.norm2 = nn.LayerNorm(d, eps=1e-6)
        self.ffn = FeedForward(d, f)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, d) / d ** .5)

    def pre(self, x, e0, ct, st, cs, ss):
        F_, S, d = x.shape
        m = self.scale_shift_table + e0  # [F,6,d]
        a = ln(x) * (1 + m[:, 1:2]) + m[:, 0:1]
        at = self.attn1
        q, k, v = at.to_q(a), at.to_k(a), at.to_v(a)
        q2 = rot(at.norm_q(q).reshape(F_, S, self.heads, -1), ct, st, cs, ss)
        k2 = rot(at.norm_k(k).reshape(F_, S, self.heads, -1), ct, st, cs, ss)
        return q2.to(v.dtype), k2.to(v.dtype), v.reshape(F_, S, self.heads, -1)

    def text(self, c):
        at = self.attn2
        B, L, d = c.shape
        k = at.norm_k(at.to_k(c)).reshape(B, L, self.heads, -1)
        v = at.to_v(c).reshape(B, L, self.heads, -1)
        return k.to(v.dtype).transpose(1, 2), v.transpose(1, 2)

    def post(self, x, o, e0, ck, cv, bias):
        """o [F,S,H,128], ck and cv [F,H,L,128], bias [F,1,1,L]"""
        F_, S, d = x.shape
        m = self.scale_shift_table + e0
        x = x + self.attn1.to_out[0](o.reshape(F_, S, d)).float() * m[:, 2:3]
        at = self.attn2
        b = ln(x, self.norm2.weight, self.norm2.bias)
        q = at.norm_q(at.to_q(b)).reshape(F_, S, self.heads, -1).to(cv.dtype).transpose(1, 2)
        w = ((q @ ck.transpose(-1, -2)).float() * (q.shape[-1] ** -.5) + bias).softmax(-1)
        y = (w.to(cv.dtype) @ cv).transpose(1, 2).reshape(F_, S, d)
        x = x + at.to_out[0](y).float()
        g = ln(x) * (1 + m[:, 4:5]) + m[:, 3:4]
        return x + self.ffn.net[2](F.gelu(self.ffn.net[0].proj(g), approximate="tanh")).float() * m[:, 5:6]


class TwoLinear(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(i, o), nn.Linear(o, o)


class Condition(nn.Module):
    def __init__(self, d, text_dim):
        super().__init__()
        self.time_embedder = TwoLinear(256, d)
        self.time_proj = nn.Linear(d, 6 * d)
        self.text_embedder = TwoLinear(text_dim, d)


def sdpa(q, k, v):
    """[B,N,H,128] in and out."""
    t = lambda z: z.transpose(1, 2)
    return t(F.scaled_dot_product_attention(t(q), t(k), t(v)))


def bidirectional(q, k, v, B):
    return sdpa(*(z.reshape(B, -1, *z.shape[-2:]) for z in (q, k, v))).reshape(q.shape)


def teacher_forcing(q, k, v, B, window=WINDOW):
    """Frames of a clip: all chunks but the last, clean and causal; then all chunks, noisy, each sees earlier clean ones and
    itself. At most `window` frames are seen."""
    n = CHUNK * q.shape[1]
    q, k, v = (z.reshape(B, -1, *z.shape[-2:]).split(n, 1) for z in (q, k, v))
    chunks = (len(q) + 1) // 2
    half, W = chunks - 1, window // CHUNK
    clean, noisy = [], []
    for i in range(chunks):
        lo = max(0, i - W + 1)
        join = lambda z, last: torch.cat([*z[lo:i], z[last]], 1) if i else z[last]
        if i + 1 < chunks:
            clean.append(sdpa(q[i], join(k, i), join(v, i)))
        noisy.append(sdpa(q[half + i], join(k, half + i), join(v, half + i)))
    return torch.cat(clean + noisy, 1)


class Wan(nn.Module):
    def __init__(self, heads=3, layers=6, ffn=1536, text_dim=256, channels=16):
        super().__init__()
        d = heads * 128
        self.d, self.heads = d, heads
        self.patch_embedding = nn.Conv3d(channels, d, (1, 2, 2), (1, 2, 2))
        self.condition_embedder = Condition(d, text_dim)
        self.blocks = nn.ModuleList([Block(d, ffn, heads) for _ in range(layers)])
        self.proj_out = nn.Linear(d, channels * 4)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, d) / d ** .5)
        for n, p in self.named_parameters():
            if p.dim() == 2 and n.endswith("weight"):
                nn.init.normal_(p, 0, (1 / p.shape[1]) ** .5 * .8)
            elif n.endswith("bias"):
                nn.init.zeros_(p)
        with torch.no_grad():
            nn.init.normal_(self.patch_embedding.weight, 0, 64 ** -.5)
            self.proj_out.weight.mul_(.05)
            self.condition_embedder.time_proj.weight.mul_(.1)
            for b in self.blocks:
                b.scale_shift_table[:, 2::3] += .5
                b.attn2.to_out[0].weight.mul_(.5)
        self.fn_pre, self.fn_post = Block.pre, Block.post
        self.window, self.sink, self.ranks = WINDOW, 0, False

    def compile(self):
        self.fn_pre = torch.compile(Block.pre, dynamic=False)
        self.fn_post = torch.compile(Block.post, dynamic=False)

    def rope(self, pos, gh, gw):
        """pos [F] on the device -> cosines and sines of frames [F,22] and of places [S,42]"""
        dev = pos.device
        key = (gh, gw, str(dev))
        if not hasattr(self, "_rope"):
            self._rope = {}
        if key not in self._rope:
            ax = lambda dim: 1.0 / (10000.0 ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim))
            y, x = (torch.outer(torch.arange(n, dtype=torch.float64), ax(42)) for n in (gh, gw))
            a = torch.cat([y[:, None].expand(gh, gw, -1), x[None].expand(gh, gw, -1)], -1).reshape(gh * gw, -1)
            t = torch.outer(torch.arange(1024, dtype=torch.float64), ax(44))
            self._rope[key] = [z.float().to(dev) for z in (a.cos(), a.sin(), t.cos(), t.sin())]
        cs, ss, ct, st = self._rope[key]
        return ct[pos], st[pos], cs, ss

    def time(self, t):
        """t [F] in 0..1000 -> e [F,d], e0 [F,6,d]"""
        w = torch.exp(-math.log(10000.0) * torch.arange(128, dtype=torch.float32, device=t.device) / 128)
        a = t.float()[..., None] * w
        ce = self.condition_embedder
        with torch.autocast(t.device.type, enabled=False):
            e = ce.time_embedder.linear_2(F.silu(ce.time_embedder.linear_1(torch.cat([a.cos(), a.sin()], -1))))
            return e, ce.time_proj(F.silu(e)).reshape(*t.shape, 6, self.d)

    def text(self, emb, length):
        """Encoder rows [B,L,text_dim] -> per layer keys and values, with one row standing for all the padding rows."""
        B, L, _ = emb.shape
        te = self.condition_embedder.text_embedder
        rows = torch.cat([emb, torch.zeros_like(emb[:, :1])], 1)
        c = te.linear_2(F.gelu(te.linear_1(rows), approximate="tanh"))
        bias = torch.where(torch.arange(L + 1, device=emb.device)[None] < length[:, None], 0.0, -1e4)
        bias[:, L] = torch.log((TEXT_ROWS - length).float())
        return [b.text(c) for b in self.blocks], bias[:, None, None]

    def tokens(self, lat):
        """[F,16,h,w] -> [F,S,d]"""
        Fr, C, h, w = lat.shape
        x = lat.reshape(Fr, C, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(Fr, -1, C * 4)
        return F.linear(x, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias).float()

    def head(self, x, e, h, w):
        m = self.scale_shift_table + e[:, None]
        y = self.proj_out(ln(x) * (1 + m[:, 1:2]) + m[:, 0:1]).float()
        return y.reshape(x.shape[0], h // 2, w // 2, 2, 2, -1).permute(0, 5, 1, 3, 2, 4).reshape(x.shape[0], -1, h, w)

    def frames(self, lat, t, pos, text, share, attend):
        """The body. lat [F,16,h,w], t and pos [F]; text: what `text` gives for the clips; share: a function that repeats rows
        of clips for their frames; attend(layer, q, k, v) between frames. -> v [F,16,h,w]"""
        kv, bias = text
        h, w = lat.shape[-2:]
        x = self.tokens(lat)
        e, e0 = self.time(t)
        rope = self.rope(pos, h // 2, w // 2)
        bias = share(bias)
        for i, (b, (ck, cv)) in enumerate(zip(self.blocks, kv)):
            q, k, v = self.fn_pre(b, x, e0, *rope)
            o = attend(i, q, k, v)
            if o is None:
                return None
            x = self.fn_post(b, x, o, e0, share(ck), share(cv), bias)
        return self.head(x, e, h, w)

    def mixed(self, groups, text, window=WINDOW):
        """Several batches of clips at once; text rows in the order of the groups. A group is (noisy [B,Fr,16,h,w], t [B,Fr],
        clean [B,Fr-3,...] or None): with clean, teacher forcing; without, bidirectional. -> a list of v [B,Fr,16,h,w]"""
        lat, ts, pos, spans, sizes = [], [], [], [], []
        for noisy, t, clean in groups:
            B, Fr = noisy.shape[:2]
            p = torch.arange(Fr, device=noisy.device).expand(B, Fr)
            if clean is not None:
                c = clean.shape[1]
                lat.append(torch.cat([clean, noisy], 1).flatten(0, 1)); ts.append(torch.cat([torch.zeros_like(t[:, :c]), t], 1).flatten())
                pos.append(torch.cat([p[:, :c], p], 1).flatten())
                spans.append((B, c + Fr, functools.partial(teacher_forcing, window=window))); sizes.append((B, Fr, c))
            else:
                lat.append(noisy.flatten(0, 1)); ts.append(t.flatten()); pos.append(p.flatten())
                spans.append((B, Fr, bidirectional)); sizes.append((B, Fr, 0))

        def share(z):
            out, i = [], 0
            for B, n, _ in spans:
                out.append(z[i:i + B, None].expand(-1, n, *z.shape[1:]).flatten(0, 1)); i += B
            return torch.cat(out) if len(out) > 1 else out[0]

        def attend(_, q, k, v):
            out, i = [], 0
            for B, n, how in spans:
                s = slice(i, i + B * n)
                out.append(how(q[s], k[s], v[s], B).reshape(B * n, *q.shape[1:])); i += B * n
            return torch.cat(out) if len(out) > 1 else out[0]

        v = self.frames(torch.cat(lat), torch.cat(ts), torch.cat(pos), text, share, attend)
        out, i = [], 0
        for (B, n, _), (_, Fr, c) in zip(spans, sizes):
            out.append(v[i:i + B * n].unflatten(0, (B, n))[:, c:]); i += B * n
        return out

    def bidir(self, lat, t, text):
        return self.mixed([(lat, t, None)], text)[0]

    def forced(self, clean, noisy, t, text):
        return self.mixed([(noisy, t, clean[:, :noisy.shape[1] - CHUNK])], text)[0]

    def surely(self):
        """What a chunk is sure to remember: how many chunks before it, and whether the first one."""
        return self.window // CHUNK - 1, self.sink > 0

    def clip(self, clean, noisy, t, text):
        """What `chunk` gives for all chunks one after the other, in one pass: with this model's window, positions of the video."""
        assert not self.sink and not self.ranks
        return self.mixed([(noisy, t, clean[:, :noisy.shape[1] - CHUNK])], text, window=self.window)[0]

    def memory(self):
        """An empty memory for `chunk`."""
        return [dict(past=[], ready=None) for _ in self.blocks]

    @staticmethod
    def fork(memory):
        """A copy that may go on by itself; the tensors are shared."""
        return [{k: list(v) if isinstance(v, list) else v for k, v in m.items()} for m in memory]

    def position(self, memory, start):
        """The temporal position of the chunk that begins at frame `start`."""
        return CHUNK * len(memory[0]["past"]) if self.ranks else start

    def chunk(self, lat, t, text, memory, start, keep=False):
        """One chunk [B,3,16,h,w] against the memory: per layer the earlier chunks, each (keys not turned in time [B,N,H,128],
        values, first frame). A chunk sees `window` frames, its own and the first `sink` frames included; with `ranks` positions
        count the frames in memory, otherwise those of the video. With keep, the chunk joins the memory (and the oldest one
        outside the sink leaves) and nothing is returned."""
        B, Fr = lat.shape[:2]
        last = len(self.blocks) - 1
        share = lambda z: z[:, None].expand(-1, Fr, *z.shape[1:]).flatten(0, 1)
        here = self.position(memory, start)
        steps = torch.arange(Fr, device=lat.device)

        def attend(i, q, k, v):
            qb, kb, vb = (z.reshape(B, -1, *z.shape[-2:]) for z in (q, k, v))
            m = memory[i]
            if m["past"] and m["ready"] is None:
                with torch.no_grad():
                    at = [CHUNK * n if self.ranks else f for n, (_, _, f) in enumerate(m["past"])]
                    m["ready"] = (torch.cat([turn(c[0], a + steps) for c, a in zip(m["past"], at)], 1), torch.cat([c[1] for c in m["past"]], 1))
            kk, vv = (torch.cat([p, z], 1) for p, z in zip(m["ready"], (kb, vb))) if m["past"] else (kb, vb)
            if keep:
                m["past"].append((turn(kb, -(here + steps)), vb, start)); m["ready"] = None
                if len(m["past"]) > self.window // CHUNK - 1:
                    m["past"].pop(self.sink // CHUNK)
                if i == last:
                    return None
            return sdpa(qb, kk, vv).reshape(q.shape)

        v = self.frames(lat.flatten(0, 1), t.flatten(), (here + steps).repeat(B), text, share, attend)
        return None if v is None else v.unflatten(0, (B, Fr))


STEPS = [1000.0, 937.5, 833.3333333333334, 625.0]


@torch.no_grad()
def rollout(model, text, noise, steps=STEPS, generator=None, start=0, euler=False, uncond=None, scale=1.0, lead=None):
    """noise [B,F,16,h,w] -> latents. Few-step: x0 prediction and fresh noise. euler: deterministic ODE over `steps`.
    With uncond (the text of the empty prompt) guidance at `scale`. lead [B,L,16,h,w]: given latents that come before, in memory and
    in what is returned (L of whole chunks)."""
    B, Fr = noise.shape[:2]
    texts = [text] if uncond is None else [text, uncond]
    memories = [model.memory() for _ in texts]
    out = []
    if lead is not None:
        for f in range(0, lead.shape[1], CHUNK):
            for c, m in zip(texts, memories):
                model.chunk(lead[:, f:f + CHUNK], torch.zeros(B, CHUNK, device=lead.device), c, m, start + f, keep=True)
        out.append(lead)
        start += lead.shape[1]
    for f in range(0, Fr, CHUNK):
        x = noise[:, f:f + CHUNK]
        for j, t in enumerate(steps):
            tt = torch.full((B, CHUNK), t, device=x.device)
            vs = [model.chunk(x, tt, c, m, start + f) for c, m in zip(texts, memories)]
            v = vs[0] if uncond is None else vs[1] + scale * (vs[0] - vs[1])
            s = t / 1000
            n = steps[j + 1] / 1000 if j + 1 < len(steps) else 0.0
            if euler:
                x = x + (n - s) * v
            else:
                x0 = x - s * v
                x = x0 if n == 0 else (1 - n) * x0 + n * torch.randn(x.shape, device=x.device, generator=generator)
        out.append(x)
        if f + CHUNK < Fr:
            for c, m in zip(texts, memories):
                model.chunk(x, torch.zeros(B, CHUNK, device=x.device), c, m, start + f, keep=True)
    return torch.cat(out, 1)


def shifted(n, shift=5.0):
    return [1000 * shift * u / (1 + (shift - 1) * u) for u in (1 - i / n for i in range(n))]
