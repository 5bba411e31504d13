#!/usr/bin/env python3
"""The proof of rollout-batch: 12 jobs and a poisoned one on a Ray cluster of two nodes on this machine, of which one is
killed half way, against a plain loop. Prints what docs/batch.md states.

  .venv/batch/bin/python tools/batch/cluster_test.py [--program generate-video] [--seconds 4] [--size 64x64] [--jobs 12]
"""
import argparse, json, os, shutil, subprocess, sys, tempfile, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rollouts

TOOLS = os.path.join(rollouts.ROOT, "tools")


def digest(folder, name):
    """What must be equal: the video and every chunk's latents."""
    files = [f"{name}/video.mp4"] + sorted(f"{name}/chunks/{c}" for c in os.listdir(os.path.join(folder, name, "chunks")))
    return [open(os.path.join(folder, f), "rb").read() for f in files]


def states(folder):
    return {r["id"]: r for r in map(json.loads, open(os.path.join(folder, "results.jsonl")))}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--size", default="64x64")
    parser.add_argument("--jobs", type=int, default=12)
    options = parser.parse_args()
    program = rollouts.program(options.program)
    import ray
    from ray.cluster_utils import Cluster

    work = tempfile.mkdtemp(prefix="longtake-batch-")
    recipes = ["self-forcing", "sparse-forcing", "light-forcing"]
    prompts = ["a red star over green hills", "a blue moon over the sea[1.5s] | a white ring over the sea at night"]
    jobs = [
        {"id": f"job{i:02d}", "prompt": prompts[i % 2], "seed": i, "sparsity": recipes[i % 3], "seconds": options.seconds,
         "size": options.size, "checkpoint_every": 1, "steps": 2} for i in range(options.jobs)]
    jobs.insert(options.jobs // 2, {"id": "poisoned", "prompt": "x", "seed": 1, "width": 17})
    path = os.path.join(work, "jobs.jsonl")
    open(path, "w").writelines(json.dumps(j) + "\n" for j in jobs)
    common = [path, "--program", program]

    def timed(*command, **more):
        start = time.time()
        status = subprocess.run([sys.executable, *command], **more).returncode
        return status, time.time() - start

    plain = os.path.join(work, "plain")
    status, seconds = timed(f"{TOOLS}/rollout-shard", *common, "-o", plain, "--threads", "1")
    assert status == 3, status
    spent = sum(r["seconds"] for r in states(plain).values())
    print(f"plain loop, one job at a time on one thread: {seconds:.1f} s, of which in jobs {spent:.1f} s")

    single = os.path.join(work, "ray-one")
    # One core for Ray, so that its jobs come one at a time too: the difference is what Ray costs.
    status, one = timed(f"{TOOLS}/rollout-batch", *common, "-o", single, "--threads", "1", "--cpus", str(len(os.sched_getaffinity(0))))
    assert status == 3, status
    spent_one = sum(r["seconds"] for r in states(single).values())
    print(f"Ray on this machine, one job at a time on one thread: {one:.1f} s, of which in jobs {spent_one:.1f} s: overhead "
          f"{one - spent_one:.1f} s in all, plain loop {seconds - spent:.1f} s")

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    folder = os.path.join(work, "ray-two")
    start = time.time()
    batch = subprocess.Popen([sys.executable, f"{TOOLS}/rollout-batch", *common, "-o", folder, "--address", cluster.address])
    killed = None
    while batch.poll() is None:
        done = [n for n in os.listdir(folder) if n.startswith("job") and not n.endswith(".part")] if os.path.isdir(folder) else []
        if killed is None and len(done) >= options.jobs // 2:
            running = [n for n in os.listdir(folder) if n.endswith(".part")]
            # At least one state on the disk, so that there is something to go on from.
            if all(os.path.isdir(f"{folder}/{n}/state") and os.listdir(f"{folder}/{n}/state") for n in running) and len(running) == 2:
                cluster.remove_node(second, allow_graceful=False)
                killed = time.time() - start
                print(f"node killed after {killed:.1f} s with {len(done)} jobs done and {running} running", flush=True)
        time.sleep(0.05)
    total = time.time() - start
    assert batch.returncode == 3, batch.returncode
    assert killed is not None, "no node was killed"
    found = states(folder)
    resumed = [n for n, r in found.items() if r["resumed"]]
    print(f"Ray on two nodes, one killed: {total:.1f} s, resumed: {', '.join(resumed) or 'none'}")
    equal = 0
    for job in jobs:
        name = job["id"]
        if name == "poisoned":
            for f in (plain, single, folder):
                assert states(f)[name]["status"] == "failed" and not os.path.exists(os.path.join(f, name)), f
            continue
        assert found[name]["status"] == "done", found[name]
        assert digest(plain, name) == digest(single, name) == digest(folder, name), f"{name} has other bytes"
        equal += 1
    print(f"{equal} jobs with the same bytes in all three; the poisoned one failed alone: {found['poisoned']['error']}")
    assert resumed, "no job was resumed"
    cluster.shutdown()
    again, seconds = timed(f"{TOOLS}/rollout-shard", *common, "-o", folder, "--threads", "1", stderr=subprocess.DEVNULL)
    assert again == 3 and sum(r["status"] == "skipped" for r in states(folder).values()) == options.jobs
    print(f"run again: all {options.jobs} skipped in {seconds:.1f} s")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
