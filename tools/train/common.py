"""Checkpoints, optimisers, sheets of frames."""
import glob, json, os, time
import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from safetensors.torch import save as st_save, load as st_load, load_file

import world
from taehv import TAEHV
from wan import Wan, UMT5, STEPS, CHUNK, WINDOW, rollout, shifted, Block
from tokenizers import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
PART = 15 << 20
TOKENS = 55
TEST_PROMPTS = ["a large red star bounces over green hills at noon with trees while the camera pans left",
                "a small green circle orbits over the sea at sunset with towers",
                "a large yellow heart slides right over mountains at dawn with houses while the camera stays still",
                "a large white cross spins over a city at night with balloons while the camera pans right",
                "a large blue square pulses over dunes at noon with towers while the camera pans away and comes back",
                "a large cyan ring stays over a forest at dawn with houses as the camera moves left",
                "a small orange triangle sways and a large purple diamond bounces over hills at sunset with trees",
                "a large purple ring orbits over the sea at night with balloons while the camera pans right"]


def save_parts(tensors, folder, name="ckpt"):
    data = st_save({k: v.detach().cpu().contiguous() for k, v in tensors.items()})
    for i in range(0, len(data), PART):
        p = f"{folder}/{name}.part{i // PART}"
        with open(p + ".tmp", "wb") as f:
            f.write(data[i:i + PART])
        os.replace(p + ".tmp", p)


def load_parts(folder, name="ckpt"):
    files = sorted(glob.glob(f"{folder}/{name}.part?"))
    return st_load(b"".join(open(f, "rb").read() for f in files)) if files else None


def load_model_folder(folder):
    """The exported layout -> one dictionary with the prefixes tf. te. vae."""
    out = {}
    for sub, pre in (("transformer", "tf."), ("text_encoder", "te."), ("tiny_vae", "vae.")):
        for f in sorted(glob.glob(f"{folder}/{sub}/*.safetensors")):
            out.update({pre + k: v for k, v in load_file(f).items()})
    return out


def part(tensors, prefix):
    return {k[len(prefix):]: v.float() for k, v in tensors.items() if k.startswith(prefix)}


def pack(tf, te, vae):
    out = {"tf." + k: v.to(torch.bfloat16) for k, v in tf.items()}
    out.update({"te." + k: v.to(torch.bfloat16) for k, v in te.items()})
    out.update({"vae." + k: v.float() for k, v in vae.items()})
    return out


class Text:
    def __init__(self, device):
        self.tok = Tokenizer.from_file(f"{HERE}/tokenizer.json")
        self.device = device

    def __call__(self, captions):
        ids = torch.zeros(len(captions), TOKENS, dtype=torch.long)
        n = torch.zeros(len(captions), dtype=torch.long)
        for i, c in enumerate(captions):
            e = self.tok.encode(c).ids
            e = e[:TOKENS - 1] + [1] if len(e) > TOKENS else e
            ids[i, :len(e)] = torch.tensor(e)
            n[i] = len(e)
        return ids.to(self.device, non_blocking=True), n.to(self.device, non_blocking=True)


def newton_schulz(G):
    X = G.bfloat16()
    tall = X.shape[-2] > X.shape[-1]
    if tall:
        X = X.mT
    X = X / (X.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        A = X @ X.mT
        X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
    return X.mT if tall else X


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for matrices, scaled so that learning rates compare with AdamW's. The rate may be a tensor."""
    def __init__(self, params, lr, momentum=.95, wd=.01):
        super().__init__(params, dict(lr=lr, momentum=momentum, wd=wd))

    @torch.no_grad()
    def step(self):
        for g in self.param_groups:
            shapes = {}
            for p in g["params"]:
                if p.grad is not None:
                    shapes.setdefault(p.shape, []).append(p)
            for shape, ps in shapes.items():
                ms = []
                for p in ps:
                    st = self.state[p]
                    if "m" not in st:
                        st["m"] = torch.zeros_like(p)
                    ms.append(st["m"])
                gs = [p.grad for p in ps]
                torch._foreach_lerp_(ms, gs, 1 - g["momentum"])
                u = torch._foreach_lerp(gs, ms, g["momentum"])
                U = newton_schulz(torch.stack(u)).float() * (-.2 * max(shape) ** .5 * g["lr"])
                torch._foreach_mul_(ps, 1 - g["lr"] * g["wd"])
                torch._foreach_add_(ps, list(U.unbind(0)))


class Adam:
    """Adam whose rate is a tensor, so that a captured step can be replayed; without bias correction (the rate warms up)."""
    def __init__(self, params, betas=(.9, .98), eps=1e-8):
        self.params, self.betas, self.eps = list(params), betas, eps
        self.m, self.v = ([torch.zeros_like(p) for p in self.params] for _ in range(2))

    @torch.no_grad()
    def step(self, lr):
        gs = [p.grad for p in self.params]
        torch._foreach_lerp_(self.m, gs, 1 - self.betas[0])
        torch._foreach_mul_(self.v, self.betas[1])
        torch._foreach_addcmul_(self.v, gs, gs, 1 - self.betas[1])
        d = torch._foreach_sqrt(self.v)
        torch._foreach_add_(d, self.eps)
        u = torch._foreach_div(self.m, d)
        torch._foreach_mul_(u, -lr)
        torch._foreach_add_(self.params, u)


def clip_gpu(params, limit):
    gs = [p.grad for p in params if p.grad is not None]
    n = torch.stack(torch._foreach_norm(gs)).norm()
    torch._foreach_mul_(gs, (limit / (n + 1e-6)).clamp(max=1.0))
    return n


class Team:
    """The processes that work on one model: one, or those of torchrun, each with its card."""
    def __init__(self, tiny):
        self.rank, self.ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if self.ranks > 1:
            if not tiny:
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            dist.init_process_group("gloo" if tiny else "nccl")
            self.clock = dist.new_group(backend="gloo")

    def agree(self, *numbers):
        """The numbers of the first process, in all of them; on the host, so nothing waits for a card."""
        if self.ranks == 1:
            return numbers
        t = torch.tensor(numbers, dtype=torch.float64)
        dist.broadcast(t, 0, group=self.clock)
        return t.tolist()

    def average(self, flat):
        """A tensor, averaged over the processes in place."""
        if self.ranks > 1:
            dist.all_reduce(flat)
            flat /= self.ranks

    def gradients(self, params):
        """Gradients of parameters, averaged over the processes."""
        if self.ranks > 1:
            gs = [p.grad for p in params if p.grad is not None]
            flat = torch.cat([g.flatten() for g in gs])
            self.average(flat)
            torch._foreach_copy_(gs, [f.view_as(g) for f, g in zip(flat.split([g.numel() for g in gs]), gs)])

    def same(self, module):
        """The first process's parameters, in all of them."""
        if self.ranks > 1:
            for p in module.parameters():
                dist.broadcast(p.data, 0)

    def apart(self, module):
        """How far the sum of the first process's parameters is from the mean of all processes: 0 if they did the same."""
        if self.ranks == 1:
            return 0.0
        mine = torch.stack([p.detach().double().sum() for p in module.parameters()]).sum().reshape(1)
        mean = mine.clone()
        self.average(mean)
        return float((mean - mine).abs())

    def close(self):
        """Ends the processes but the first."""
        if self.ranks > 1:
            dist.barrier(self.clock)
            dist.destroy_process_group()
        if self.rank:
            raise SystemExit


class Replay:
    """A function of no arguments that works on the same tensors each time, captured as a CUDA graph after a few calls."""
    memory, off = None, False

    def __init__(self, f):
        self.f, self.graph, self.calls = f, None, 0

    def __call__(self):
        self.calls += 1
        if Replay.off:
            return self.f()
        if self.graph is None and self.calls <= 3:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self.f()
            torch.cuda.current_stream().wait_stream(side)
            return
        if self.graph is None:
            torch.cuda.synchronize()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, pool=Replay.memory):
                self.f()
            Replay.memory = Replay.memory or self.graph.pool()
        self.graph.replay()


class Gradients:
    """One tensor that holds the gradients of some parameters for ever, so that a captured pass, the average over the processes and a
    captured update all know where they are."""
    def __init__(self, params):
        params = [p for p in params if p.requires_grad]
        self.flat = torch.zeros(sum(p.numel() for p in params), device=params[0].device)
        for p, g in zip(params, self.flat.split([p.numel() for p in params])):
            p.grad = g.as_strided(p.shape, p.stride())  # as the parameter lies, which may be channels last

    def of(self, f):
        def run():
            self.flat.zero_()
            f()
        return run


class EMA:
    def __init__(self, module, decay):
        self.src = [(n, p) for n, p in module.named_parameters()]
        self.val = [p.detach().clone() for _, p in self.src]
        self.decay, self.n = decay, 0

    @torch.no_grad()
    def step(self):
        self.n += 1
        torch._foreach_lerp_(self.val, [p.detach() for _, p in self.src], 1 - min(self.decay, (1 + self.n) / (10 + self.n)))

    def state(self):
        return {n: v for (n, _), v in zip(self.src, self.val)}


def sheet(video, path, n=8, scale=2):
    """video [P,T,3,H,W] -> one row per clip, n frames."""
    idx = torch.linspace(0, video.shape[1] - 1, n).round().long()
    v = video[:, idx].clamp(0, 1)
    P, _, _, h, w = v.shape
    im = (v.permute(0, 3, 1, 4, 2).reshape(P * h, n * w, 3) * 255).byte().cpu().numpy()
    Image.fromarray(im).resize((im.shape[1] // scale, im.shape[0] // scale), Image.BOX).save(path)


@torch.no_grad()
def sample_video(tf, te, vae, text, prompts, frames, device, seed=0, steps=None, euler=False, scale=1.0, half=None, lead=None):
    """Latents and pixels of free rollouts, without compilation; in bfloat16 on a GPU, or as `half` says. With lead (latents), `frames` that
    follow it."""
    pre, post = tf.fn_pre, tf.fn_post
    tf.fn_pre, tf.fn_post = Block.pre, Block.post
    g = torch.Generator(device=device).manual_seed(seed)
    h, w = world.H // 8, world.W // 8
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda" if half is None else half):
        embed = lambda c: (lambda ids, n: tf.text(te(ids, n), n))(*text(c))
        noise = torch.randn(len(prompts), frames, 16, h, w, device=device, generator=g)
        lat = rollout(tf, embed(prompts), noise, generator=g, euler=euler, steps=steps or STEPS,
                      uncond=embed([""] * len(prompts)) if scale != 1 else None, scale=scale, lead=lead)
        out = torch.cat([vae.decode(l[None]).float() for l in lat])
    tf.fn_pre, tf.fn_post = pre, post
    return lat, out


class Log:
    def __init__(self, path):
        self.f = open(path, "a")
        self.t0 = time.time()

    def __call__(self, *a):
        s = f"[{time.time() - self.t0:6.1f}] " + " ".join(str(x) for x in a)
        print(s, flush=True)
        self.f.write(s + "\n")
        self.f.flush()
