"""Jobs of many rollouts, and the one function that runs a job: the same for Ray, Slurm, Kubernetes and a plain loop.

A job is a line of a JSONL file: an object whose keys are the flags of generate-video with underscores, such as
{"id": "hills", "prompt": "a red star over green hills", "seed": 3, "seconds": 20, "sparsity": "light-forcing"}.
A list repeats its flag, true gives the bare flag. Paths are relative to the file. Without an id the job gets one from its
content. The seed is the job's (0 if it says none), never the worker's, so that where and when a job runs changes nothing.

DIR/ID.part is the run directory while the job runs, DIR/ID what it is renamed to when it is done; job.json in it says of which
job, engine and weights it is. A job that is done with the same fingerprint is skipped, one that was cut off is resumed.
"""
import ctypes, fcntl, hashlib, json, os, re, shutil, signal, subprocess, sys, threading, time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATHS = ("image", "video", "storyboard", "prompt_file", "model", "checkpoint")
# Where things go, and what the batch decides itself.
RESERVED = ("output", "run_dir", "json", "quiet", "threads", "help", "version")
STOPPED = 75


class BadJobs(Exception):
    """A file of jobs that cannot be run; one line."""


def read_jobs(path):
    """All jobs of a file, in order, each with a unique id.  Raises BadJobs, naming the line."""
    try:
        lines = open(path, encoding="utf-8").read().splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise BadJobs(f"{path} cannot be read: {getattr(e, 'strerror', None) or 'it is not UTF-8'}")
    jobs, seen, base = [], {}, os.path.dirname(os.path.abspath(path))
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            job = json.loads(line)
        except ValueError as e:
            raise BadJobs(f"{where}: no JSON: {e}")
        if not isinstance(job, dict):
            raise BadJobs(f"{where}: a job is an object, not {type(job).__name__}")
        for key, value in job.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]*", key) or key in RESERVED:
                reason = "is set by the batch" if key in RESERVED else "is no flag with underscores"
                raise BadJobs(f"{where}: the key '{key}' {reason}")
            for item in value if isinstance(value, list) else [value]:
                if not isinstance(item, (str, int, float, bool)):
                    raise BadJobs(f"{where}: '{key}' is {json.dumps(item)}, wanted a text, a number, true, or a list of them")
        job.setdefault("seed", 0)
        if isinstance(job["seed"], bool) or not isinstance(job["seed"], int) or job["seed"] < 0:
            raise BadJobs(f"{where}: 'seed' is {json.dumps(job['seed'])}, wanted a whole number from 0: a batch draws none")
        for key in PATHS:
            if key in job:
                job[key] = os.path.normpath(os.path.join(base, str(job[key])))
        name = job.pop("id", None)
        if name is None:
            name = hashlib.sha256(canonical(job).encode()).hexdigest()[:16]
        elif not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name) or name.endswith(".part"):
            raise BadJobs(f"{where}: 'id' is {json.dumps(name)}, wanted letters, digits, dots, - and _")
        if name in seen:
            raise BadJobs(f"{where}: the job '{name}' is that of line {seen[name]} too")
        seen[name] = number
        jobs.append({"id": name, "flags": job})
    if not jobs:
        raise BadJobs(f"{path} holds no job")
    return jobs


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def arguments(flags):
    """The flags of a job as generate-video takes them, in a fixed order."""
    out = []
    for key in sorted(flags):
        for value in flags[key] if isinstance(flags[key], list) else [flags[key]]:
            flag = "--" + key.replace("_", "-")
            if value is True:
                out.append(flag)
            elif value is not False:
                # One word, so that a value that begins with a dash is a value.
                out.append(f"{flag}={value}")
    return out


def program(path=None):
    """The program: what was given, the release build, or what the PATH has."""
    built = os.path.join(ROOT, ".build/release/generate-video")
    found = path or (built if os.access(built, os.X_OK) else shutil.which("generate-video"))
    if not found or not os.access(found, os.X_OK):
        raise BadJobs(f"{path or built} cannot be run; build with swift build -c release, or give --program")
    return os.path.abspath(found)


def mark_of(path):
    """Of a file: its size and the SHA-256 of its first and last 64 kB; of a folder: all of its files' marks."""
    if os.path.isdir(path):
        names = sorted(os.path.relpath(os.path.join(d, n), path) for d, _, ns in os.walk(path) for n in ns)
        return {n: mark_of(os.path.join(path, n)) for n in names}
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as f:
            head = f.read(1 << 16)
            f.seek(max(0, size - (1 << 16)))
            return f"{size}-{hashlib.sha256(head + f.read()).hexdigest()}"
    except OSError:
        return None


def fingerprint(flags, program):
    """Of all that the bytes of the result depend on: job, engine version, weights, inputs."""
    version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.strip()
    model = flags.get("model") or os.environ.get("LONGTAKE_MODEL") or os.path.join(ROOT, "weights/default")
    # Paths do not count, what is in the files does.
    settings = {k: v for k, v in flags.items() if k not in PATHS}
    inputs = {k: mark_of(flags[k]) for k in PATHS if k in flags}
    inputs["model"] = mark_of(model)
    return hashlib.sha256(canonical([settings, version, inputs]).encode()).hexdigest()


def read_json(path):
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except (OSError, ValueError):
        return None


def write_json(path, value):
    """Under another name, brought to the disk, renamed."""
    with open(path + ".tmp", "w", encoding="utf-8") as f:
        json.dump(value, f, indent=2, sort_keys=True, ensure_ascii=False)
        f.flush()
        os.fsync(f.fileno())
    os.replace(path + ".tmp", path)


def die_with_parent():
    """In the child: if the worker is killed, so is the program; its lock is then free for the next try."""
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    except (OSError, AttributeError):
        pass


def run_job(job, folder, program, threads=1, stop=None, log=None):
    """Runs one job to its end.  Returns {"id", "status": done|skipped|failed|stopped, "seconds", "resumed", "error"}.

    stop: an Event that asks the program to save its state and stop.  log: called with a line when something begins.
    """
    start = time.time()

    def result(status, error=None, resumed=False):
        return {
            "id": job["id"], "status": status, "seconds": round(time.time() - start, 3), "resumed": resumed, "error": error,
            "host": os.uname().nodename,
        }

    final, part = os.path.join(folder, job["id"]), os.path.join(folder, job["id"] + ".part")
    mark = fingerprint(job["flags"], program)
    os.makedirs(os.path.join(folder, ".locks"), exist_ok=True)
    with open(os.path.join(folder, ".locks", job["id"]), "w") as lock:
        # A worker that Ray believes dead may still be at it for a moment.
        for _ in range(600):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(0.1)
        else:
            return result("failed", "another worker is at this job")
        if (read_json(os.path.join(final, "job.json")) or {}).get("fingerprint") == mark:
            return result("skipped")
        begun = read_json(os.path.join(part, "job.json")) or {}
        resumes = begun.get("fingerprint") == mark and os.path.exists(os.path.join(part, "manifest.json"))
        if resumes:
            command = [program, "resume", part, "--quiet", f"--threads={threads}"]
        else:
            shutil.rmtree(part, ignore_errors=True)
            os.makedirs(part)
            write_json(os.path.join(part, "job.json"), {"job": job, "fingerprint": mark})
            command = [program, *arguments(job["flags"]), "--run-dir", part, "--quiet", f"--threads={threads}"]
        if log:
            log(f"{job['id']}: {'resumed' if resumes else 'started'}")
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            preexec_fn=die_with_parent)
        if stop is not None:
            def watch():
                while child.poll() is None:
                    if stop.wait(0.2):
                        child.send_signal(signal.SIGTERM)
                        return
            threading.Thread(target=watch, daemon=True).start()
        errors = child.communicate()[1].strip().splitlines()
        if child.returncode == STOPPED:
            return result("stopped", resumed=resumes)
        if child.returncode != 0:
            said = errors[-1] if errors else f"ended with status {child.returncode}"
            if not os.path.exists(os.path.join(part, "manifest.json")):
                shutil.rmtree(part, ignore_errors=True)
            return result("failed", said, resumed=resumes)
        if os.path.isdir(final):
            # Of an earlier version of this job; it goes only now that there is a new one.
            os.rename(final, final + ".old.part")
        os.rename(part, final)
        shutil.rmtree(final + ".old.part", ignore_errors=True)
        return result("done", resumed=resumes)


def describe(result):
    """One line for people."""
    how = " (resumed)" if result["resumed"] else ""
    why = f": {result['error']}" if result["error"] else ""
    return f"{result['id']}: {result['status']}{how} after {result['seconds']:.1f} s{why}"


def conclude(results, jobs, folder, suffix=""):
    """Writes results.jsonl and failed.jsonl (with a suffix, for shards), says the sum, and returns the exit status: 0, 3 if some failed, 75."""
    order = {job["id"]: i for i, job in enumerate(jobs)}
    results = sorted(results, key=lambda r: order[r["id"]])
    for name, chosen in ((f"results{suffix}.jsonl", results), (f"failed{suffix}.jsonl", [r for r in results if r["status"] == "failed"])):
        path = os.path.join(folder, name)
        with open(path + ".tmp", "w", encoding="utf-8") as f:
            f.writelines(canonical(r) + "\n" for r in chosen)
        os.replace(path + ".tmp", path)
    count = {s: sum(r["status"] == s for r in results) for s in ("done", "skipped", "failed", "stopped")}
    print(", ".join(f"{n} {s}" for s, n in count.items() if n), file=sys.stderr)
    if count["stopped"] or len(results) < len(jobs):
        return STOPPED
    return 3 if count["failed"] else 0
