"""What a memory is for, taught by the world: real clips whose camera comes back, all chunks of a clip at once, each after the clean
ones before it. What a chunk shows is pulled towards the truth only where its memory can know it: in columns that the first chunk has
shown (or, for a dense window, a chunk in it), once the camera has some of that in sight again, and, NEAR times as much, in those that
the chunk before has shown. Nothing is asked of the first EARLY chunks: which way a camera sets out is not known yet, and what
is pulled both ways stands still. Nothing is asked where the memory does not decide, since a distance averages there (a pull on everything
made fog), nor of the objects: taught by clips that go on as they began, they come to rest in a rollout.

With `old`, a model as it was before it learned to remember, all that is not asked for is pulled towards what that one would have shown
from the same noise and after the same frames, objects KEEP times as much: what nobody teaches drifts (objects that swayed began to
slide). Not in columns that the chunk before has shown: `old` paints them anew, which is what the lessons are to end.

A pass answers from noise, or after some of the student's own steps, as in a rollout; the gradient goes through the last one and through
what is remembered. Clips come from `clips.py --loops`."""
import glob, os, time
import torch
from common import *

BLUR, AGAIN, NEAR = 8, 48, .1  # pixels: at an edge, which do not count as seen; of the first view, by which it is known again
EARLY = 3
KEEP = 4.


def known(P, frames, back, first):
    """P [B,keys] of the world's clips -> weights [B,F,1,1,W/8] of the latents' columns for a memory of the last `back` chunks and, with
    `first`, the first one; 0 in the first EARLY chunks."""
    dev = P.device
    last = torch.arange(frames, device=dev)[None] * 4 / world.FPS + 3 / world.FPS  # the last picture of each latent
    at = world.camera(P, last)
    x = (torch.arange(world.W // 8, device=dev) + .5) * 8
    place = at[:, :, None] + x
    chunk = torch.arange(frames, device=dev) // CHUNK

    def seen(chunks):
        """The columns that the frames of `chunks` [F] show."""
        by = at[:, chunks[:, None] * CHUNK + torch.arange(CHUNK, device=dev)]
        off = place[:, :, None] - by[..., None]
        off = off - world.AROUND * torch.floor(off / world.AROUND)
        return ((off > BLUR) & (off < world.W - BLUR)).any(2)

    near, old = seen((chunk - 1).clamp(min=0)), torch.zeros_like(place, dtype=torch.bool)
    for j in range(2, back + 1):
        old = old | seen((chunk - j).clamp(min=0)) & (chunk >= j)[None, :, None]
    if first:
        gone = at[:, (chunk - 1).clamp(min=0) * CHUNK + CHUNK - 1] - at[:, :1]
        gone = (gone - world.AROUND * torch.round(gone / world.AROUND)).abs()
        old = old | seen(0 * chunk) & (gone < world.W - AGAIN)[..., None]
    w = torch.where(near, NEAR, torch.where(old, 1., 0.)) * (chunk >= EARLY)[None, :, None]
    return w[:, :, None, None]


class Clips:
    """A pool of clips on the card, renewed from a folder."""
    def __init__(self, folder, text, dev, size=768):
        self.folder, self.text, self.dev, self.size, self.put, self.came, self.calls = folder, text, dev, size, 0, 0, 0
        self.filled = torch.zeros((), device=dev)  # read by captured lessons

    def take(self, every=12):
        """A file of new clips at every twelfth call: a clip is seen about three times."""
        self.calls += 1
        for f in sorted(glob.glob(f"{self.folder}/*.clips"), key=os.path.getmtime)[:self.calls % every == 0 or not self.came]:
            z, y, rows, words, hide = torch.load(f)
            os.remove(f)
            ids, n = self.text(words)
            new = dict(z=z.to(self.dev), rows=rows.to(self.dev), hide=hide.to(self.dev), ids=ids, n=n)
            if not self.came:
                self.pool = {k: torch.zeros(self.size, *v.shape[1:], dtype=v.dtype, device=self.dev) for k, v in new.items()}
            i = (self.put + torch.arange(len(z), device=self.dev)) % self.size
            for k, v in new.items():
                self.pool[k][i] = v
            self.put, self.came = (self.put + len(z)) % self.size, self.came + len(z)
            self.filled.fill_(min(self.size, self.came))
        return self.came

    def draw(self, n):
        i = (torch.rand(n, device=self.dev) * self.filled).long()
        return {k: v[i] for k, v in self.pool.items()}


def lesson(student, te, clips, batch, exit_step, old=None):
    """-> loss; the distance to `old` (0 without), of which the loss is to get a share; and, without gradient, the mean squared error in
    columns known from the chunk before, in those known from the first one alone, and of objects from what `old` shows."""
    c = clips.draw(batch)
    x = c["z"].float()
    B, T = x.shape[:2]
    with torch.no_grad():
        w = known(c["rows"], T, *student.surely())
        e = te(c["ids"], c["n"])
        clean = x + torch.randn_like(x) * (.1 * torch.rand(B, 1, 1, 1, 1, device=x.device))
    tt = student.text(e, c["n"])
    z = torch.randn_like(x)
    for j in range(exit_step + 1):
        s, t = STEPS[j] / 1000, torch.full((B, T), STEPS[j], device=x.device)
        with torch.set_grad_enabled(j == exit_step):
            x0 = z - s * student.clip(clean, z, t, tt)
        if j < exit_step:
            n = STEPS[j + 1] / 1000
            z = (1 - n) * x0 + n * torch.randn_like(x0)
    x0, hide = x0.float(), c["hide"].float()
    soft = lambda d: (d + .1).sqrt() - .1 ** .5
    mean = lambda d, m: (d * m).sum() / m.expand_as(d).sum().clamp(min=1)
    w = w * (1 - hide)
    alone = w > 1.1 * NEAR
    off, kept, moved = (x0 - x).pow(2), x0.new_zeros(()), x0.new_zeros(())
    if old is not None:
        with torch.no_grad():
            before = z - s * old.clip(clean, z, t, old.text(e, c["n"]))
        changed = (x0 - before.float()).pow(2)
        kept, moved = mean(soft(changed), KEEP * hide + (1 - hide) * (w == 0)), mean(changed.detach(), hide)
    with torch.no_grad():
        told = torch.stack([mean(off, (w > 0) & ~alone), mean(off, alone), moved])
    return mean(soft(off), w), kept, told


class Lessons:
    """Lessons for a student, each with a step of AdamW; on a card captured as CUDA graphs, if nothing else is trained (`Replay.off`). held: the gradients of all its parameters
    that are trained (`Gradients`); only: in the names of those that lessons change; alike: the weight of the distance to `old`."""
    def __init__(self, student, te, clips, batch, held, team, ema, rate, only="", old=None, alike=0.):
        self.clips, self.held, self.team, self.ema, self.rate = clips, held, team, ema, rate
        self.taught = [p for n, p in student.named_parameters() if p.requires_grad and only in n]
        dev = self.taught[0].device
        self.fresh = lambda: torch.optim.AdamW(self.taught, lr=rate, betas=(.9, .99), weight_decay=0, fused=dev.type == "cuda")
        self.by, self.sums, self.count = self.fresh(), torch.zeros(6, device=dev), 0

        def one(exit_step):
            with torch.autocast(dev.type, torch.bfloat16, enabled=dev.type == "cuda"):
                loss, kept, seen = lesson(student, te, clips, batch, exit_step, old)
            (loss + alike * kept).backward()
            if exit_step == 0:
                self.sums.add_(torch.cat([torch.stack([loss, kept]).detach(), seen, torch.ones_like(seen[:1])]))

        self.of = [Replay(held.of(lambda j=j: one(j))) for j in range(len(STEPS))]

    def wait(self):
        while not self.clips.take():
            time.sleep(.1)

    def begin(self, ema):
        """Anew, for weights that were read since."""
        self.by, self.ema = self.fresh(), ema

    def teach(self, rng, share):
        """A lesson at this share of the rate; rng is the same in every process."""
        self.clips.take()
        self.of[max(0, int(rng.integers(-3, len(STEPS))))]()  # half of them from noise
        self.team.average(self.held.flat)
        clip_gpu(self.taught, 1.0)
        self.by.param_groups[0]["lr"] = self.rate * share
        self.by.step(); self.ema.step()
        self.count += 1

    def told(self):
        """What the lessons from noise since the last call gave."""
        m = (self.sums[:5] / self.sums[5].clamp(min=1)).tolist()
        self.sums.zero_()
        return "lessons %d: loss %.4f kept %.4f, squared error known %.4f returned %.4f, objects moved %.4f" % (self.count, *m) + ", %d clips" % self.clips.came
