"""What the engine itself makes, judged: held-out prompts of `evaluate.py --seed`, one rollout each by `generate-video`, read back from its
H.264. The first five seconds, those from 15 to 20 s and the last five.

    judge_engine.py OUT.json --sparsity sparse-forcing --seconds 60 --seed 13 --prompts 200 --jobs 2

Each job has one thread. OUT.json.rows keeps what is done, so that a run that was stopped goes on; OUT.json is for `report.py`, its
runs are called NAME:RECIPE:SECONDS. With --beside, the rows of another run, what each of the two names right where the other does not, on the
prompts of both (they have the same noise). With --flags other settings of the engine, for the teacher, say (`restore_teacher.py`, `export.py`):

    judge_engine.py OUT.json --model TEACHER --name teacher --sparsity dense --seconds 5 --flags "--mode clip --sampler euler --steps 50 --guidance 3"
"""
import argparse, json, multiprocessing, os, shlex, subprocess, tempfile
import numpy as np
import torch
import judge as judging
import world

HERE = os.path.dirname(os.path.abspath(__file__))
ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("out"); ap.add_argument("--sparsity", default="sparse-forcing"); ap.add_argument("--seconds", type=float, default=60)
ap.add_argument("--seed", type=int, default=13); ap.add_argument("--prompts", type=int, default=200); ap.add_argument("--jobs", type=int, default=os.cpu_count())
ap.add_argument("--model", default=f"{HERE}/../../weights/default"); ap.add_argument("--precision", default="bf16")
ap.add_argument("--generator", default=f"{HERE}/../../.build/release/generate-video"); ap.add_argument("--judge", default=f"{HERE}/state/judge.pt")
ap.add_argument("--name", default="engine"); ap.add_argument("--beside", help="another run's .rows")
ap.add_argument("--flags", default="", help="more of generate-video's, in one argument")
LONG = judging.FRAMES * judging.STRIDE  # frames that are judged at once


def windows(video, seconds):
    """Frames [T,H,W,3] -> name and frames of what is judged."""
    parts = {"first 5 s": video[:LONG]}
    if seconds > 20:
        parts["15 to 20 s"] = video[20 * world.FPS + 1 - LONG:20 * world.FPS + 1]
    if seconds > 5:
        parts["last 5 s"] = video[-LONG:]
    return parts


def one(job):
    """A prompt -> its number, what was said, and of each window what is seen and how bright, contrasted and saturated it is."""
    a, i, prompt, said = job
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/video.mp4"
        made = subprocess.run([a.generator, "--model", a.model, "--sparsity", a.sparsity, "--precision", a.precision, "--seconds", str(a.seconds), "--threads", "1",
                        "--seed", str(1000 * a.seed + i), "--prompt", prompt, "--output", path, *shlex.split(a.flags)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if made.returncode:
            raise RuntimeError(f"{a.generator} ended with {made.returncode} on {prompt!r}: " + " ".join(made.stderr.splitlines()[-1:]))
        raw = subprocess.run(["ffmpeg", "-v", "error", "-threads", "1", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True, stdout=subprocess.PIPE).stdout
    video, rows = np.frombuffer(raw, np.uint8).reshape(-1, world.H, world.W, 3), {}
    net, _ = judging.load(a.judge)
    with torch.no_grad():
        for when, v in windows(video, a.seconds).items():
            x = torch.from_numpy(v[::judging.STRIDE].copy()).permute(0, 3, 1, 2)[None].float() / 255
            r = net(x)
            rows[when] = [int(r[h].argmax(1)) for h in judging.HEADS], judging.looks(x)[0].tolist()
    return i, said, rows


def beside(ours, theirs):
    """Rows of two runs by prompt -> of each window and head, how many prompts only ours and only theirs agree with."""
    both, out = sorted(set(ours) & set(theirs), key=int), {"prompts": 0}
    for i in both:
        (said, mine), (again, other) = ours[i], theirs[i]
        assert said == again, f"prompt {i} differs"
        out["prompts"] += 1
        for when in mine:
            for k, h in enumerate(judging.HEADS):
                won, lost = out.setdefault(when, {}).get(h, (0, 0))
                m, o = mine[when][0][k] == said[k], other[when][0][k] == said[k]
                out[when][h] = won + (m and not o), lost + (o and not m)
    return out


def main():
    a = ap.parse_args()
    if not os.access(a.generator, os.X_OK):
        raise SystemExit(f"{a.generator} is not there or cannot be run: build it (swift build -c release) or name one with --generator")
    rng = np.random.default_rng(a.seed)
    specs = [world.draw_spec(rng, held=True, count=1) for _ in range(max(200, a.prompts))][:a.prompts]
    about = dict(vars(a), out=None, jobs=None, prompts=None, beside=None, name=None)
    if not a.flags:
        del about["flags"]
    kept = f"{a.out}.rows"
    done = json.load(open(kept)) if os.path.exists(kept) else {"about": about, "rows": {}}
    if done["about"] != about:
        raise SystemExit(f"{kept} is of another run: {done['about']}")
    jobs = [(a, i, world.sentence(s), judging.said(s)) for i, s in enumerate(specs) if str(i) not in done["rows"]]
    with multiprocessing.get_context("spawn").Pool(a.jobs) as pool:
        for i, said, rows in pool.imap_unordered(one, jobs):
            done["rows"][str(i)] = said, rows
            json.dump(done, open(kept + ".tmp", "w")); os.replace(kept + ".tmp", kept)
            if len(done["rows"]) % 10 == 0:
                print(len(done["rows"]), "of", a.prompts, flush=True)
    _, net = judging.load(a.judge)
    result = {"judge on real clips": net["fresh"], "judge clips": net["clips"], "seed": a.seed}
    rows = [done["rows"][str(i)] for i in range(a.prompts)]
    y = torch.tensor([said for said, _ in rows])
    for when in rows[0][1]:
        r, looks = (torch.tensor([x[when][k] for _, x in rows]) for k in (0, 1))
        v = result[f"{a.name}:{a.sparsity}:{a.seconds:g}, {when}"] = judging.verdict(y, r, looks)
        print(when, {h: v[h][0] for h in judging.HEADS})
    if a.beside:
        result[f"{a.name}:{a.sparsity}:{a.seconds:g}, beside"] = pairs = beside(done["rows"], json.load(open(a.beside))["rows"])
        print("won and lost beside", a.beside, pairs)
    json.dump(result, open(a.out, "w"))


if __name__ == "__main__":
    main()
