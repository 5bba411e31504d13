"""The memories of Sparse Forcing and Light Forcing for training, as at inference (the engine's recipes), and LoRA to train under them.

A block is a tile of TILE tokens of one frame (the engine's pages). `SparseWan`: per layer and head P, at most `capacity` frames'
worth of old blocks that every query reads, and L, the chunk before and the current one, of which each query block reads the best
`density` by the product of pooled queries and keys. When a chunk leaves L its blocks compete with P for the places, by the share of
pooled attention that the clean queries of the chunk give them; the blocks of the first `sink` frames always win. With `ranks` the
temporal position of a key is its place in memory, renewed for each chunk: persistent blocks fill up frames of their own, oldest
first, the chunk before and the current one follow (as in the engine, once a run outlives the trained window); without, the frame of
the video.

`LightWan`: the dense window with its first chunk kept, of which a query block reads ever fewer blocks (chunk-aware growth), first
by frames, then by blocks. Selection is discrete and has no gradient."""
import math
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from wan import CHUNK, WINDOW, Wan, turn

TILE = (5, 8)


class TiledWan(Wan):
    """A model whose chunks look at blocks. A memory says which (`look`) and what stays (`end_of_chunk`)."""
    def __init__(self, **kw):
        super().__init__(**kw)
        self.across = 4  # blocks of a frame; `chunk` counts them
        self._order = {}

    def order(self, gh, gw, dev):
        """Places of a frame tile by tile, and back."""
        if (gh, gw) not in self._order:
            i = torch.arange(gh * gw).reshape(gh // TILE[0], TILE[0], gw // TILE[1], TILE[1]).permute(0, 2, 1, 3).reshape(-1)
            self._order[gh, gw] = (i.to(dev), torch.argsort(i).to(dev))
        return self._order[gh, gw]

    def tiles(self, z, B):
        """Rows of frames [B*F,S,H,128] of whole chunks -> blocks [B,chunks,H,n,tokens,128]."""
        there, _ = self.order(*self.grid, z.device)
        F_, S, H, d = z.shape
        z = z.reshape(B, F_ // B // CHUNK, CHUNK, S, H, d)[:, :, :, there].permute(0, 1, 4, 2, 3, 5)
        return z.reshape(B, -1, H, CHUNK * self.across, S // self.across, d)

    def rows(self, z):
        """What `tiles` gives for one chunk -> rows of frames [B,3,S,H,128]."""
        _, back = self.order(*self.grid, z.device)
        return z.reshape(*z.shape[:2], CHUNK, -1, z.shape[-1]).permute(0, 2, 3, 1, 4)[:, :, back]

    def see(self, m, q, k, v, start):
        """Attention of the blocks of a chunk over what its memory lets it read; and the share of attention of each block in memory."""
        kk, vv, seen, mass = self.look(m, q, k, v, start)
        mask = None
        if seen is not None:
            n, (T, N) = q.shape[3], seen.shape[-2:]
            mask = seen[:, :, :, None, :, None].expand(*seen.shape[:3], n, N, n).reshape(*seen.shape[:2], T * n, N * n)
        return F.scaled_dot_product_attention(q.flatten(2, 3), kk.flatten(2, 3), vv.flatten(2, 3), attn_mask=mask), mass

    def leave(self, m, k, v, mass, here, start):
        """The blocks of a clean chunk join the memory, keys turned back from where they stand."""
        at = torch.arange(CHUNK, device=k.device).repeat_interleave(self.across).expand(*k.shape[:3])
        self.end_of_chunk(m, dict(k=turn(k, -(at + here)), v=v, frame=at + start), mass)

    def measure(self, h, w):
        self.grid, self.across = (h // 2, w // 2), h * w // 4 // (TILE[0] * TILE[1])

    def chunk(self, lat, t, text, memory, start, keep=False):
        B, Fr, _, h, w = lat.shape
        self.measure(h, w)
        share = lambda z: z[:, None].expand(-1, Fr, *z.shape[1:]).flatten(0, 1)
        last = len(self.blocks) - 1
        here = self.position(memory, start)

        def attend(i, q, k, v):
            m = memory[i]
            q, k, v = (self.tiles(z, B)[:, 0] for z in (q, k, v))
            with torch.no_grad():
                if m["ready"] is None:
                    m["ready"] = self.read(m)
            o, mass = self.see(m, q, k, v, start)
            if keep:
                with torch.no_grad():
                    self.leave(m, k, v, mass, here, start)
                if i == last:
                    return None
            return self.rows(o).flatten(0, 1)

        pos = (here + torch.arange(Fr, device=lat.device)).repeat(B)
        v = self.frames(lat.flatten(0, 1), t.flatten(), pos, text, share, attend)
        return None if v is None else v.unflatten(0, (B, Fr))

    def clip(self, clean, noisy, t, text):
        """All chunks of a clip at once, each against the memory that the clean chunks before it have left: what `chunk` gives one
        after the other, with a gradient through what is remembered. clean and noisy [B,F,16,h,w], t [B,F] -> v [B,F,16,h,w]"""
        B, Fr, _, h, w = noisy.shape
        self.measure(h, w)
        n, before = Fr // CHUNK, Fr - CHUNK  # the last clean chunk is seen by none
        share = lambda z: z[:, None].expand(-1, before + Fr, *z.shape[1:]).flatten(0, 1)
        heres = [self.settled(i) for i in range(n)]
        key = ("clip", n, str(noisy.device))
        if key not in self._order:  # nothing may come from the host while a pass is captured
            self._order[key] = torch.tensor([h + j for h in heres for j in range(CHUNK)], device=noisy.device)
        pos = self._order[key]

        def attend(_, q, k, v):
            m = self.memory()[0]
            q, k, v = (self.tiles(z, B).unbind(1) for z in (q, k, v))
            calm, loud = [], []
            for i, here in enumerate(heres):
                m["ready"] = self.read(m)
                j = n - 1 + i
                loud.append(self.rows(self.see(m, q[j], k[j], v[j], CHUNK * i)[0]))
                if i < n - 1:
                    o, mass = self.see(m, q[i], k[i], v[i], CHUNK * i)
                    self.leave(m, k[i], v[i], mass, here, CHUNK * i)
                    calm.append(self.rows(o))
            return torch.cat(calm + loud, 1).flatten(0, 1)

        lat, ts = torch.cat([clean[:, :before], noisy], 1), torch.cat([torch.zeros_like(t[:, :before]), t], 1)
        v = self.frames(lat.flatten(0, 1), ts.flatten(), torch.cat([pos[:before], pos]).repeat(B), text, share, attend)
        return v.unflatten(0, (B, before + Fr))[:, before:]


def pooled(q, k):
    """Products of block means: q [B,H,T,n,128], k [B,H,N,n,128] -> [B,H,T,N]"""
    return q.float().mean(3) @ k.float().mean(3).transpose(-1, -2)


class SparseWan(TiledWan):
    def __init__(self, capacity=6, local=6, density=.25, sink=3, **kw):
        super().__init__(**kw)
        self.capacity, self.local, self.density, self.sink = capacity, local // CHUNK, density, sink

    def memory(self):
        return [dict(local=[], p=None, ready=None) for _ in self.blocks]

    def position(self, memory, start):
        m = memory[0]
        return (m["p"]["k"].shape[2] // self.across if m["p"] else 0) + CHUNK * len(m["local"]) if self.ranks else start

    def surely(self):
        return self.local - 1, self.sink > 0  # which other blocks stay is up to the attention

    def settled(self, i):
        """The temporal position of chunk i."""
        return min(CHUNK * i, self.capacity + CHUNK * (self.local - 1)) if self.ranks else CHUNK * i

    def read(self, m):
        """Persistent and local blocks of a layer with their keys turned to where they are now: k, v, k, v."""
        rank, out = 0, []
        parts = ([m["p"]] if m["p"] else []) + m["local"]
        for c in parts:
            n = torch.arange(c["k"].shape[2], device=c["k"].device) // self.across + rank
            at = n.expand(*c["k"].shape[:2], -1) if self.ranks else c["frame"]
            out.append((turn(c["k"], at), c["v"]))
            rank += c["k"].shape[2] // self.across
        p, local = (out[:1], out[1:]) if m["p"] else ([], out)
        cat = lambda xs, j: torch.cat([x[j] for x in xs], 2) if xs else None
        return cat(p, 0), cat(p, 1), cat(local, 0), cat(local, 1)

    def look(self, m, q, k, v, start):
        kp, vp, kl, vl = m["ready"]
        kp, vp = (kp, vp) if kp is not None else (k[:, :, :0], v[:, :, :0])
        kl, vl = (torch.cat([kl, k], 2), torch.cat([vl, v], 2)) if kl is not None else (k, v)
        with torch.no_grad():
            sl, sp = (pooled(q, z) * q.shape[-1] ** -.5 for z in (kl, kp))
            best = sl.topk(max(1, math.ceil(self.density * sl.shape[-1])), -1).indices
            seen = torch.zeros_like(sl, dtype=torch.bool).scatter_(-1, best, True)
            seen = torch.cat([torch.ones_like(sp, dtype=torch.bool), seen], -1)
            mass = torch.cat([sp, sl], -1).softmax(-1).sum(2)  # per block of P and L
        return torch.cat([kp, kl], 2), torch.cat([vp, vl], 2), seen, mass

    def end_of_chunk(self, m, chunk, mass):
        """The clean chunk (keys not turned in time) joins L; what falls out of L competes for P."""
        m["ready"] = None
        m["local"].append(chunk)
        if len(m["local"]) < self.local:
            return
        e = m["local"].pop(0)
        if m["p"] is None:
            m["p"] = e
        else:
            p = {j: torch.cat([m["p"][j], e[j]], 2) for j in e}
            n = p["k"].shape[2]
            score = mass[..., :n].masked_fill(p["frame"] < self.sink, math.inf)
            best = torch.sort(score, dim=-1, descending=True, stable=True).indices[..., :min(self.capacity * self.across, n)].sort(-1).values
            m["p"] = {j: z.gather(2, best[..., None, None].expand(*best.shape, *z.shape[3:]) if z.dim() > 3 else best) for j, z in p.items()}


class LightWan(TiledWan):
    """Chunk i >= 1 of `planned` reads floor((1 - s_i) K) of K blocks in memory, with n_i = 3 (i + 1) frames made, L_i = min(n_i, window)
    visible, s_i = base - beta / sqrt(n_i) and beta = (base - target) sum L_i / sum (L_i / sqrt(n_i)). With more than `keep` earlier
    frames only those of the oldest `first`, the latest `near`, the best of those between (by the mean product of their blocks) and the
    chunk's own are candidates."""
    def __init__(self, target=.88, base=.98, keep=6, first=1, near=2, **kw):
        super().__init__(**kw)
        self.target, self.base, self.keep, self.first, self.near = target, base, keep, first, near
        self.planned = WINDOW // CHUNK
        self.sink, self.ranks = CHUNK, True

    def memory(self):
        return [dict(past=[], ready=None) for _ in self.blocks]

    def sparsity(self, i):
        made = [(j + 1) * CHUNK for j in range(1, max(2, self.planned))]
        seen = [min(n, self.window) for n in made]
        beta = (self.base - self.target) * sum(seen) / sum(l / n ** .5 for l, n in zip(seen, made))
        i = min(i, self.planned - 1)
        return 0.0 if i < 1 else min(max(self.base - beta / ((i + 1) * CHUNK) ** .5, 0), .999)

    def settled(self, i):
        return min(CHUNK * i, self.window - CHUNK) if self.ranks else CHUNK * i

    def read(self, m):
        rank, ks, vs = 0, [], []
        for c in m["past"]:
            n = torch.arange(c["k"].shape[2], device=c["k"].device) // self.across + rank
            ks.append(turn(c["k"], n.expand(*c["k"].shape[:2], -1) if self.ranks else c["frame"])); vs.append(c["v"])
            rank += CHUNK
        return (torch.cat(ks, 2), torch.cat(vs, 2)) if ks else ()

    def look(self, m, q, k, v, start):
        if not m["ready"]:
            return k, v, None, None
        kk, vv = torch.cat([m["ready"][0], k], 2), torch.cat([m["ready"][1], v], 2)
        N, past = kk.shape[2], m["ready"][0].shape[2] // self.across
        count = max(1, math.floor((1 - self.sparsity(start // CHUNK)) * N))
        if past > self.keep:
            count = min(count, (self.keep + CHUNK) * self.across)
        if count >= N:
            return kk, vv, None, None
        with torch.no_grad():
            s = pooled(q, kk)
            if past > self.keep:
                frames = s[..., :past * self.across].unflatten(-1, (past, self.across)).mean(-1)
                best = frames[..., self.first:past - self.near].topk(self.keep - self.first - self.near, -1).indices + self.first
                ok = torch.zeros_like(frames, dtype=torch.bool).scatter_(-1, best, True)
                ok[..., :self.first] = True
                ok[..., past - self.near:] = True
                s[..., :past * self.across] = s[..., :past * self.across].masked_fill(~ok.repeat_interleave(self.across, -1), -math.inf)
            seen = torch.zeros_like(s, dtype=torch.bool).scatter_(-1, s.topk(count, -1).indices, True)
        return kk, vv, seen, None

    def end_of_chunk(self, m, chunk, mass):
        m["ready"] = None
        m["past"].append(chunk)
        if len(m["past"]) > self.window // CHUNK - 1:
            m["past"].pop(self.sink // CHUNK)


RECIPES = {"dense": Wan, "sparse-forcing": SparseWan, "light-forcing": LightWan}


# ---------------------------------------------------------------- LoRA

class LoRA(nn.Module):
    """A frozen linear layer and a trained product of two thin ones."""
    def __init__(self, base, rank, alpha):
        super().__init__()
        self.base, self.scale = base, alpha / rank
        self.lora_A, self.lora_B = nn.Linear(base.in_features, rank, bias=False), nn.Linear(rank, base.out_features, bias=False)
        nn.init.normal_(self.lora_A.weight, 0, base.in_features ** -.5)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x):
        return self.base(x) + self.scale * self.lora_B(self.lora_A(x))


LAYERS = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_out.0", "ffn.net.0.proj", "ffn.net.2")


def add_lora(model, rank=16, alpha=16):
    model.requires_grad_(False)
    for b in model.blocks:
        for name in LAYERS:
            parent, _, leaf = name.rpartition(".")
            p = b.get_submodule(parent)
            setattr(p, leaf, LoRA(getattr(p, leaf), rank, alpha).to(b.norm2.weight.device))
    return [p for p in model.parameters() if p.requires_grad]


def reset_lora(model):
    for m in model.modules():
        if isinstance(m, LoRA):
            nn.init.normal_(m.lora_A.weight, 0, m.base.in_features ** -.5)
            nn.init.zeros_(m.lora_B.weight)


def read_lora(path):
    """A file of `save_lora`: name of a linear layer -> (A, B), their product the difference of its weights."""
    with safe_open(path, "pt") as f:
        t, alpha = {k.removeprefix("base_model.model."): f.get_tensor(k).float() for k in f.keys()}, float(f.metadata()["alpha"])
    names = [k.removesuffix(".lora_A.weight") for k in t if k.endswith(".lora_A.weight")]
    return {n: (t[n + ".lora_A.weight"], t[n + ".lora_B.weight"] * (alpha / len(t[n + ".lora_A.weight"]))) for n in names}


def load_lora(model, path):
    """The addition of a file, of at most this model's rank; what the rank has more stays as it is and adds nothing."""
    added = read_lora(path)
    for name, m in model.named_modules():
        if isinstance(m, LoRA):
            A, B = added[name]
            with torch.no_grad():
                m.lora_A.weight[:len(A)] = A
                m.lora_B.weight[:, :len(A)] = B / m.scale


def save_lora(named, path, alpha):
    """named: (name, tensor) of a model after add_lora -> a file with PEFT's names."""
    out = {"base_model.model." + k: v.detach().to(torch.bfloat16).contiguous().cpu() for k, v in named if ".lora_" in k}
    save_file(out, path, metadata={"format": "pt", "alpha": str(alpha)})


if __name__ == "__main__":
    # read everything, keep everything: the same as the dense window
    from wan import UMT5
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    s, d, te = SparseWan(capacity=15, density=1.0), Wan(), UMT5(1280)
    s.load_state_dict(d.state_dict())
    ids, n = torch.randint(4, 900, (2, 20)), torch.tensor([20, 13])
    kv = d.text(te(ids, n), n)
    t = torch.full((2, 3), 500.)
    clip = torch.randn(2, 30, 16, 10, 32)
    a, b, outs = s.memory(), d.memory(), []
    for f in range(0, 21, 3):
        x = clip[:, f:f + 3]
        outs.append((s.chunk(x, t, kv, a, f), d.chunk(x, t, kv, b, f)))
        for m, mem in ((s, a), (d, b)):
            m.chunk(x, 0 * t, kv, mem, f, keep=True)
    rel = lambda y, z: float((y - z).norm() / z.norm())
    print("dense limit", max(rel(y, z) for y, z in outs))
    s.capacity, s.density, a = 6, .25, s.memory()
    for f in range(0, 30, 3):
        s.chunk(clip[:, f:f + 3], 0 * t, kv, a, f, keep=True)
    fr = a[0]["p"]["frame"]
    print("blocks kept", tuple(fr.shape), "of the first chunk", (fr < 3).sum(-1).tolist(), "frames", sorted(set(fr[0, 0].tolist())))
    before = s.chunk(x, t, kv, s.memory(), 0)
    # the same memory read whole is the dense window; the growth of the engine's `plan` for 20 s
    x0 = x
    l = LightWan(base=0.0, target=0.0)
    l.load_state_dict(d.state_dict())
    l.keep, d.sink, d.ranks, a, b, outs = 99, 3, True, l.memory(), d.memory(), []
    for f in range(0, 30, 3):
        x = clip[:, f:f + 3]
        outs.append((l.chunk(x, t, kv, a, f), d.chunk(x, t, kv, b, f)))
        for m, mem in ((l, a), (d, b)):
            m.chunk(x, 0 * t, kv, mem, f, keep=True)
    print("light forcing, everything read", max(rel(y, z) for y, z in outs))
    for m in (s, l):  # all chunks at once: the same as one after the other
        m.ranks, a, one = True, m.memory(), []
        for f in range(0, 30, 3):
            one.append(m.chunk(clip[:, f:f + 3] * .5, t, kv, a, f))
            m.chunk(clip[:, f:f + 3], 0 * t, kv, a, f, keep=True)
        print("all chunks at once", rel(m.clip(clip, clip * .5, t[:, :1].expand(-1, 30), kv), torch.cat(one, 1)))
    d.sink, d.ranks, d.window, a, one = 0, False, 12, d.memory(), []
    for f in range(0, 30, 3):
        one.append(d.chunk(clip[:, f:f + 3] * .5, t, kv, a, f))
        d.chunk(clip[:, f:f + 3], 0 * t, kv, a, f, keep=True)
    print("all chunks at once, dense", rel(d.clip(clip, clip * .5, t[:, :1].expand(-1, 30), kv), torch.cat(one, 1)))
    l = LightWan()
    l.planned = 27
    print("sparsity of chunks 1, 2, 6, 26 of 27:", *("%.4f" % l.sparsity(i) for i in (1, 2, 6, 26)))
    print("lora parameters", sum(p.numel() for p in add_lora(s)), "starts as nothing", rel(s.chunk(x0, t, kv, s.memory(), 0), before))
