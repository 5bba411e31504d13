"""The tables of docs/model-quality.md again, from what evaluate.py and landmarks.py wrote.

usage: report.py DOCUMENT RESULT.json ...     evaluation.json and landmark files in any order; later ones win

In the document a table stands between `<!-- table NAME -->` and `<!-- end -->`; the names are those of TABLES and PAIRS, `landmarks`, and
`landmarks-away` and `landmarks-led` for the loops of landmarks.py that were measured (`landmarks-led-6`: with --seed 6)."""
import json, math, re, sys

HEADS = ["shape", "colour", "size", "motion", "scene", "time", "landmark", "camera"]
CAMERAS = ["still", "left", "right", "away"]

NAMES = {"held:teacher:5, first 5 s": "teacher, first 5 s", "seen:short:5, first 5 s": "seen, first 5 s"}
WHEN = {"first 5 s": "first 5 s", "15 to 20 s": "15 to 20 s", "last 5 s": "last 5 s of 60 s"}
WHAT = {"held:short": "", "held:sink": "window of 21, first chunk kept, ", "held:sparse": "sparse, not trained, ", "held:sparse+fifth": "sparse, fifth run, ",
        "held:sparse+lora": "`sparse-forcing`, ", "held:light": "light, not trained, ", "held:light+lora": "light, trained, ", "before:held:short": "the model before, "}
for kind, what in WHAT.items():
    for when, word in WHEN.items():
        NAMES[f"{kind}:60, {when}"] = NAMES[f"fresh:{kind}:60, {when}"] = what + word
for kind, what in (("lessons part", "sixth run, 60% of the way, "), ("lessons", "sixth run, ")):
    for when, word in WHEN.items():
        NAMES[f"{kind}:60, {when}"] = what + word
for when, word in WHEN.items():
    NAMES[f"engine:sparse-forcing:60, {when}"], NAMES[f"seventh:sparse-forcing:60, {when}"] = "`sparse-forcing`, " + word, "`sparse-forcing`, seventh run, " + word
NAMES["engine:self-forcing:5, first 5 s"], NAMES["fifth:sparse-forcing:5, first 5 s"] = "window of 12, first 5 s", "`sparse-forcing`, fifth run, first 5 s"
for scale in (3, 5, 8):
    NAMES[f"whole {scale}, first 5 s"] = f"all frames at once, guidance {scale}"
OTHERS = ("short", "sink", "sparse", "sparse+fifth", "sparse+lora", "light", "light+lora")
TABLES = {"fresh": [f"fresh:held:short:60, {w}" for w in WHEN],
          "engine": ["engine:self-forcing:5, first 5 s", "fifth:sparse-forcing:5, first 5 s"] + [f"seventh:sparse-forcing:60, {w}" for w in ("first 5 s", "last 5 s")] + [f"engine:sparse-forcing:60, {w}" for w in WHEN],
          "lessons": ["fresh:held:short:60, last 5 s", "fresh:held:sparse+fifth:60, last 5 s", "lessons part:60, last 5 s", "lessons:60, last 5 s", "seventh:sparse-forcing:60, last 5 s", "engine:sparse-forcing:60, last 5 s"],
          "whole": ["held:teacher:5, first 5 s"] + [f"whole {g}, first 5 s" for g in (3, 5, 8)],
          "dense": ["held:short:60, first 5 s", "held:short:60, 15 to 20 s", "held:short:60, last 5 s", "held:teacher:5, first 5 s", "seen:short:5, first 5 s"],
          "before": ["before:held:short:60, first 5 s", "before:held:short:60, last 5 s", "held:short:60, first 5 s", "held:short:60, last 5 s"],
          "memories": [f"held:{k}:60, last 5 s" for k in OTHERS],
          "memories20": [f"held:{k}:60, 15 to 20 s" for k in OTHERS],
          "memories5": [f"held:{k}:60, first 5 s" for k in OTHERS]}
LAND = {"short": "window of 12, nothing kept", "short-sink": "window of 12, first chunk kept", "sink": "dense window of 21, first chunk kept",
        "sparse": "sparse-forcing, 12 frames in memory, not trained", "fifth": "sparse-forcing, fifth run's addition", "sparse+lora": "**sparse-forcing**", "short+lora": "its weights, window of 12, nothing kept",
        "seventh": "sparse-forcing, seventh run's addition",
        "light": "light-forcing, not trained", "light+lora": "light-forcing, trained",
        "lessons part": "sparse-forcing after the sixth run, 60% of the way", "lessons part, short": "the same weights, window of 12",
        "lessons": "sparse-forcing after the sixth run, the whole way", "lessons, short": "these weights, window of 12"}
# What two memories gave from the same noise, prompt by prompt: runs that are put one after the other, ours and theirs, of 60 s.
PAIRS = {"beside": [("`sparse-forcing`", [f"seed {seed}, d:held:sparse+lora:60" for seed in (14, 15)], [f"seed {seed}, d:held:short:60" for seed in (14, 15)])],
         "beside-runs": [(what, [f"seed 14, {name}:held:sparse+lora:60"], ["seed 14, d:held:short:60"]) for what, name in
                         (("fifth run", "fifth"), ("seventh run", "seventh"), ("eighth run, b", "b"), ("**eighth run, d**", "d"))]}
ALL = "all eight"


def judged(results, runs):
    runs = [r for r in runs if r in results]
    rows = ["| | " + " | ".join(NAMES[r] if r in NAMES else r for r in runs) + " | judge on real clips |", "|---" * (len(runs) + 2) + "|"]
    cell = lambda x: "%.1f (%.1f, %.1f)" % tuple(x) if x else ""
    for h in HEADS:
        rows.append(f"| {'time of day' if h == 'time' else h} | " + " | ".join(cell(results[r].get(h)) for r in runs) + f" | {results['judge on real clips'].get(h, '')} |")
    for i, what in enumerate(("brightness", "contrast", "saturation") if all("brightness, contrast, saturation" in results[r] for r in runs) else ()):
        rows.append(f"| mean {what} | " + " | ".join("%.3f" % results[r]["brightness, contrast, saturation"][i] for r in runs) + " | |")
    return rows


def right(results, runs, when, head):
    """A 1 for each prompt that the runs followed in a head, or in ALL, one run after the other."""
    found = [results[f"{r}, {when}"]["right"] for r in runs]
    return "".join(f[head] if head != ALL else "".join("01"[all(x == "1" for x in y)] for y in zip(*f.values())) for f in found)


def apart(ours, theirs):
    """Two strings of a 1 for each prompt that was followed -> how many only ours and only theirs have, the difference in points and its 95%
    interval: half a prompt more for either (Agresti and Min, 2005), since they are few."""
    assert len(ours) == len(theirs)
    won, lost, n = (*(sum(x != y and x == o for x, y in zip(ours, theirs)) for o in "10"), len(ours))
    d = (won - lost) / (n + 2)
    return won, lost, f"{100 * (won - lost) / n:+.1f} ± {196 * math.sqrt(((won + lost + 1) / (n + 2) - d * d) / (n + 2)):.1f}"


def pairs(results, several):
    """A row for each head; one pair of memories with what each has, several with the differences alone, after a minute."""
    head, rows = [], {h: [] for h in HEADS + [ALL]}
    for what, ours, theirs in several:
        for when in WHEN if len(several) == 1 else ("last 5 s",):
            head += [f"{WHEN[when]}: window of 12", what, f"only {what}, only the window", "difference"] if len(several) == 1 else [what]
            for h in rows:
                x, y = right(results, ours, when, h), right(results, theirs, when, h)
                won, lost, off = apart(x, y)
                share = lambda z: f"{100 * z.count('1') / len(z):.1f}"
                rows[h] += [share(y), share(x), f"{won}, {lost}", off] if len(several) == 1 else [off]
    return ["| | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"] + [f"| {'time of day' if h == 'time' else h} | " + " | ".join(r) + " |" for h, r in rows.items()]


def camera(results, run):
    n = CAMERAS
    m = results[run]["confusion"]["camera"]
    return ["| | " + " | ".join("away and back" if c == "away" else c for c in n) + " |", "|---" * (len(n) + 1) + "|"] + \
        [f"| {'away and back' if c == 'away' else c} | " + " | ".join(map(str, m[i])) + " |" for i, c in enumerate(n)]


def landmarks(land):
    ci = lambda v: f"{v['mean']:.1f} ± {v['ci95']:.1f}"
    base = land.get("short", {}).get("one turn later", {}).get("values")
    rows = ["| | one turn later | half a turn later | the difference | against the window of 12, same prompts | another prompt |", "|---|---|---|---|---|---|"]
    if "the world itself" in land:
        rows.append(f"| the world itself | {ci(land['the world itself'])} | {ci(land['the world itself, half a turn later'])} | | | |")
    for k, what in LAND.items():
        if k not in land:
            continue
        v, diff = land[k]["one turn later"], ""
        if base and k != "short" and len(v["values"]) == len(base):
            d = [a - b for a, b in zip(v["values"], base)]
            m = sum(d) / len(d)
            s = math.sqrt(sum((x - m) ** 2 for x in d) / (len(d) - 1) / len(d))
            diff = f"{m:+.2f} ± {1.96 * s:.2f}"
        rows.append(f"| {what} | {ci(v)} | {ci(land[k]['half a turn later'])} | {ci(land[k]['above half a turn'])} | {diff} | {ci(land[k]['another prompt'])} |")
    return rows


def loops(found):
    """Of `landmarks.py --loop away` or `led`: a row for each visit and memory, from the values of the rollouts that count."""
    import numpy as np
    from away import interval

    def cell(x, digits, n=False):
        v = interval(np.array(x)) if x else None
        return "" if not v or v["mean"] is None else f"{v['mean']:.{digits}f}" + ("" if v["ci95"] is None else f" ± {v['ci95']:.{digits}f}") + (f" ({v['n']})" if n else "")

    rows = ["| | | came back | counted | same place, dB | another place, dB | the difference, dB | against the window of 12 (pairs) | same place, structure | another place | the difference | against the window of 12 |", "|---" * 12 + "|"]
    names = {"the world itself": "the world itself", **LAND}
    for visit in [v for v, o in found.get("the world itself", {}).items() if isinstance(o, dict)]:
        base = found.get("short", {}).get(visit)
        for k, what in names.items():
            o = found.get(k, {}).get(visit)
            if not isinstance(o, dict):
                continue
            cells = []
            for m, digits in (("psnr", 1), ("structure", 2)):
                v = o[m]["values"]
                above = [x and x[0] - x[1] for x in v]
                pairs = []
                if base and k not in ("short", "the world itself") and len(base[m]["values"]) == len(v):
                    pairs = [x - (y[0] - y[1]) for x, y in zip(above, base[m]["values"]) if x is not None and y]
                cells += [cell([x[0] for x in v if x], digits), cell([x[1] for x in v if x], digits), cell([x for x in above if x is not None], digits), cell(pairs, digits, m == "psnr")]
            rows.append(f"| {visit} | {what} | {o['came back']} | {o['count']} of {o['rollouts']} | " + " | ".join(cells) + " |")
    return rows


if __name__ == "__main__":
    results, land, other = {}, {}, {}
    for f in sys.argv[2:]:
        d = json.load(open(f))
        if "loop" in d:
            other[f"landmarks-{d['loop']}" + ("" if d["seed"] == 5 else f"-{d['seed']}")] = d
        else:
            (results if "judge on real clips" in d else land).update(d)
    made = {k: judged(results, runs) for k, runs in TABLES.items()}
    made["landmarks"] = landmarks(land)
    made.update({name: pairs(results, several) for name, several in PAIRS.items() if all("right" in results.get(f"{r}, {w}", {}) for _, *runs in several for r in sum(runs, []) for w in WHEN)})
    made.update({name: loops(d) for name, d in other.items()})
    for name, run in (("camera", "fresh:held:short:60, first 5 s"), ("camera60", "fresh:held:short:60, last 5 s")):
        if run in results:
            made[name] = camera(results, run)
    text = open(sys.argv[1]).read()
    for name in re.findall(r"<!-- table (\S+) -->", text):
        if name not in made:
            continue  # its measurement is not there: the table stays as it is
        body = "\n".join(made[name])
        text = re.sub(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", lambda m: m[1] + body + "\n" + m[2], text, flags=re.S)
    open(sys.argv[1], "w").write(text)
    print("tables:", ", ".join(made))
