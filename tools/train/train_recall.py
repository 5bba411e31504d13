"""Lessons in what to remember (`recall.py`) and nothing beside them: an addition of Sparse Forcing goes on, pulled back to another one (--like) in all that
the lessons do not teach. No teacher, critic or classifier takes part.

    train_recall.py OUT SECONDS --init MODEL --from ADDITION --like ADDITION --clips FOLDER

Clips come from `clips.py --loops` in FOLDER followed by the number of the process; several processes under torchrun, a card each, give
their lessons at once and average the gradients. The addition of --from may be of a lower rank than --lora. Writes
OUT/sparse-forcing.safetensors every minute and at the end."""
import argparse, os, time
import numpy as np
import torch
import torch._dynamo
from common import *
import recall
from memories import merge
from sparse import SparseWan, add_lora, load_lora, reset_lora, save_lora

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("out"); ap.add_argument("seconds", type=float)
ap.add_argument("--init", required=True); ap.add_argument("--from", dest="before", required=True); ap.add_argument("--clips", required=True)
ap.add_argument("--like"); ap.add_argument("--alike", type=float, default=3., help="weight of the distance to it")
ap.add_argument("--lora", type=int, default=32, help="rank"); ap.add_argument("--attention", action="store_true", help="change self-attention alone")
ap.add_argument("--rate", type=float, default=4e-4); ap.add_argument("--batch", type=int, default=8, help="clips of a lesson, for each process")
ap.add_argument("--eager", action="store_true", help="capture no lesson"); ap.add_argument("--deadline", type=float, default=0)


def main():
    a = ap.parse_args()
    dev = "cuda" if torch.cuda.is_available() else "cpu"
    tiny = dev == "cpu"
    torch._dynamo.config.recompile_limit = 64
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    os.makedirs(a.out, exist_ok=True)
    team = Team(tiny)
    log = Log(f"{a.out}/log_recall.txt") if team.rank == 0 else lambda *_: None
    seed = int(team.agree(time.time())[0])
    torch.manual_seed(seed + 1000 * team.rank)
    rng = np.random.default_rng(seed)
    ck = load_parts(a.init) or load_model_folder(a.init)
    text, te, student = Text(dev), UMT5(1280).to(dev).eval().requires_grad_(False), SparseWan().to(dev)
    te.load_state_dict(part(ck, "te."))
    student.load_state_dict(part(ck, "tf."))
    old = SparseWan().to(dev).eval().requires_grad_(False) if a.like else None
    if old is not None:
        old.load_state_dict(merge(part(ck, "tf."), a.like))
    for m in (student, old):
        if m is not None:
            m.sink, m.ranks = 3, True
            if not tiny:
                m.compile()
    trained = add_lora(student, a.lora, a.lora)
    reset_lora(student)
    load_lora(student, a.before)
    team.same(student)
    Replay.off = tiny or a.eager
    lessons = recall.Lessons(student, te, recall.Clips(f"{a.clips}{team.rank}", text, dev), 2 if tiny else a.batch, Gradients(trained), team, EMA(student, .995), a.rate,
                             ".attn1." if a.attention else "", old, a.alike)
    save = lambda: save_lora(lessons.ema.state().items(), f"{a.out}/sparse-forcing.safetensors", a.lora)
    lessons.wait()
    t0, saved, told = team.agree(time.time())[0], 0, 0
    while True:
        now = team.agree(time.time())[0]
        p = (now - t0) / (a.deadline - t0 if a.deadline else a.seconds)
        if p >= 1 or (tiny and lessons.count >= 2):
            break
        lessons.teach(rng, min(1, (lessons.count + 1) / 40) * (1 if p < .6 else max(.05, (1 - p) / .4)))
        if lessons.count == 1 or now - t0 > told + 20:
            told = now - t0
            log(lessons.told(), "%.0f%%" % (100 * p), "peak GB %.1f" % (torch.cuda.max_memory_allocated() / 1e9) if not tiny else "")
        if now - t0 > saved + 60:
            saved = now - t0
            if team.rank == 0:
                save()
    log(lessons.told(), "processes", team.ranks, "whose parameters differ from the mean by", team.apart(student))
    team.close()
    save()
    open(f"{a.out}/done", "w").close()
    log("done, %.0f s" % (time.time() - t0))


if __name__ == "__main__":
    main()
