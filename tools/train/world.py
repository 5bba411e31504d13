"""A small procedural video world: large shapes move in front of a wide, round panorama seen by a panning camera.

A clip is a row of numbers (`KEYS`), from which `render` draws any frames on any device, so ground truth, object masks and
captions are exact and nothing is stored. The panorama is a circle of `AROUND` pixels: whoever pans far enough comes back to
the same place, landmarks included. A second world needs the same five names: `sample`, `render`, `caption`, `H`, `W`.

    draw_spec(rng)      what is to be seen (a dictionary), never one of the held-out combinations unless asked
    caption(rng, spec)  one of many sentences for it
    sample(rng, n)      parameters [n, keys], captions, specs
    render(P, frames)   video [n, frames, 3, H, W] in 0..1, optionally with the mask of the objects
"""
import math
import numpy as np
import torch

H, W, FPS = 160, 256, 16
AROUND, SLOTS, OBJECTS = 960.0, 4, 3

SHAPES = ["circle", "square", "triangle", "star", "heart", "ring", "diamond", "cross"]
COLOURS = {"red": (.88, .13, .14), "orange": (.98, .52, .08), "yellow": (.98, .88, .16), "green": (.13, .72, .22),
           "cyan": (.10, .85, .88), "blue": (.13, .25, .92), "purple": (.62, .16, .80), "white": (.97, .97, .97)}
SIZES = {"small": (29., 32.), "large": (43., 47.)}
MOTIONS = ["bounces", "slides left", "slides right", "orbits", "sways", "pulses", "spins", "stays"]
SCENES = {"hills": (.38, .62, .33), "mountains": (.44, .47, .56), "dunes": (.86, .69, .44), "sea": (.15, .47, .62),
          "forest": (.16, .43, .30), "city": (.50, .46, .55)}
TIMES = {"noon": dict(top=(.42, .64, .90), low=(.80, .90, .97), light=(1., 1., 1.), add=(0., 0., 0.), sun=(1., .98, .86)),
         "dawn": dict(top=(.60, .67, .88), low=(.99, .84, .78), light=(.90, .82, .84), add=(.08, .03, .05), sun=(1., .93, .80)),
         "sunset": dict(top=(.42, .32, .58), low=(.99, .62, .40), light=(.66, .52, .52), add=(.12, .04, .03), sun=(1., .84, .50)),
         "night": dict(top=(.06, .08, .21), low=(.22, .27, .47), light=(.30, .36, .50), add=(.02, .03, .07), sun=(.93, .94, .86))}
LANDMARKS = ["trees", "towers", "houses", "balloons"]
HUES = [(.86, .38, .32), (.93, .74, .30), (.28, .62, .62), (.90, .86, .80), (.62, .42, .66), (.45, .66, .34)]
CAMERAS = ["still", "left", "right", "away"]

WORDS = {
    "small": ["small", "little", "tiny"], "large": ["large", "big", "huge"],
    "circle": ["circle", "ball", "disc"], "square": ["square", "box"], "triangle": ["triangle"], "star": ["star"],
    "heart": ["heart"], "ring": ["ring", "hoop"], "diamond": ["diamond", "rhombus"], "cross": ["cross", "plus"],
    "bounces": ["bounces", "hops", "jumps up and down"], "slides left": ["slides left", "moves to the left", "drifts left"],
    "slides right": ["slides right", "moves to the right", "drifts right"],
    "orbits": ["orbits", "circles around", "goes round and round"], "sways": ["sways", "swings from side to side"],
    "pulses": ["pulses", "grows and shrinks"], "spins": ["spins", "rotates", "turns"], "stays": ["stays", "rests", "does not move"],
    "hills": ["hills", "green hills", "rolling hills"], "mountains": ["mountains", "high peaks", "snowy mountains"],
    "dunes": ["dunes", "sand dunes", "a desert"], "sea": ["the sea", "an ocean", "the water"],
    "forest": ["a forest", "the woods", "a green forest"], "city": ["a city", "a town", "city blocks"],
    "noon": ["at noon", "by day", "in daylight"], "dawn": ["at dawn", "in the morning", "at sunrise"],
    "sunset": ["at sunset", "in the evening", "at dusk"], "night": ["at night", "by night", "in the moonlight"],
    "trees": ["trees"], "towers": ["towers", "lighthouses"], "houses": ["houses", "cottages"], "balloons": ["balloons", "hot air balloons"],
}
CAM_WORDS = {
    "still": ["", "", "with a still camera", "while the camera stays still"],
    "left": ["while the camera pans left", "as the camera moves left", "with the camera panning left"],
    "right": ["while the camera pans right", "as the camera moves right", "with the camera panning right"],
    "away": ["while the camera pans away and comes back", "as the camera swings out and back", "with the camera going away and returning"],
}


def held_out(spec):
    """Combinations that training never shows: 6 of 64 shape and colour pairs, 2 of 24 scenes and times."""
    pair = {(i, (3 * i + 1) % 8) for i in (0, 2, 3, 4, 6, 7)}
    names = list(COLOURS)
    return any((SHAPES.index(o["shape"]), names.index(o["colour"])) in pair for o in spec["objects"]) \
        or (spec["scene"], spec["time"]) in (("dunes", "dawn"), ("forest", "sunset"))


# ---------------------------------------------------------------- sampling

def pick(rng, xs):
    return xs[int(rng.integers(len(xs)))]


def draw_object(rng):
    shape = pick(rng, SHAPES)
    motion = pick(rng, MOTIONS)
    while motion == "spins" and shape in ("circle", "ring"):
        motion = pick(rng, MOTIONS)
    return dict(shape=shape, colour=pick(rng, list(COLOURS)), size=pick(rng, list(SIZES)), motion=motion)


def draw_spec(rng, held=False, count=None):
    """A random clip; with `held`, one of the combinations that training never shows."""
    while True:
        n = count or 1 + int(rng.random() > .84) + int(rng.random() > .95)
        spec = dict(objects=[draw_object(rng) for _ in range(n)], scene=pick(rng, list(SCENES)), time=pick(rng, list(TIMES)),
                    landmark=pick(rng, LANDMARKS), camera=pick(rng, CAMERAS))
        if held_out(spec) == held:
            return spec


def noun(rng, o):
    size = pick(rng, WORDS[o["size"]]) if rng.random() > .06 else ""
    colour = o["colour"] if rng.random() > .03 else ""
    words = " ".join(w for w in (size, colour, pick(rng, WORDS[o["shape"]])) if w)
    return ("an " if words[0] in "aeio" else "a ") + words


def caption(rng, spec):
    parts = [noun(rng, o) + " " + pick(rng, WORDS[o["motion"]]) for o in spec["objects"]]
    subject = ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]
    place = pick(rng, ["over", "over", "in front of", "before"]) + " " + pick(rng, WORDS[spec["scene"]])
    when = pick(rng, WORDS[spec["time"]]) if rng.random() > .05 else ""
    marks = pick(rng, ["with", "with", "beside", "among"]) + " " + pick(rng, WORDS[spec["landmark"]]) if rng.random() > .15 else ""
    cam = pick(rng, CAM_WORDS[spec["camera"]])
    order = rng.random()
    if order < .60:
        text = f"{subject} {place} {marks} {when} {cam}"
    elif order < .70:
        text = f"{subject} {place} {when} {marks} {cam}"
    elif order < .80:
        text = f"{when}, {subject} {place} {marks} {cam}" if when else f"{subject} {place} {marks} {cam}"
    elif order < .92:
        text = f"{place} {marks} {when}, {subject} {cam}"
    elif cam and not cam.startswith("with"):
        text = f"{cam}, {subject} {place} {marks} {when}"
    else:
        text = f"{subject} {cam} {place} {marks} {when}"
    text = " ".join(text.replace(" ,", ",").split())
    if rng.random() < .06:
        text = text[0].upper() + text[1:]
    if rng.random() < .08:
        text += "."
    return text


def sentence(spec):
    """The plainest caption, with nothing left out: what evaluation prompts with."""
    def one(o):
        words = f'{o["size"]} {o["colour"]} {o["shape"]} {o["motion"]}'
        return ("an " if words[0] in "aeio" else "a ") + words
    cam = dict(still="while the camera stays still", left="while the camera pans left", right="while the camera pans right",
               away="while the camera pans away and comes back")[spec["camera"]]
    return f'{" and ".join(map(one, spec["objects"]))} over {WORDS[spec["scene"]][0]} {WORDS[spec["time"]][0]} with {spec["landmark"]} {cam}'


def parameters(rng, spec):
    """Everything `render` needs, as one flat row of floats."""
    u = lambda a, b: float(rng.uniform(a, b))
    time = TIMES[spec["time"]]
    tint = rng.uniform(-.02, .02, 3)
    ground = np.clip(np.array(SCENES[spec["scene"]]) * time["light"] + time["add"] + tint, 0, 1)
    snow = np.clip(np.array((.92, .94, .98)) * time["light"] + time["add"], 0, 1)
    row = dict(scene=list(SCENES).index(spec["scene"]), landmark=LANDMARKS.index(spec["landmark"]), camera=CAMERAS.index(spec["camera"]),
               night=float(spec["time"] == "night"), x0=u(0, AROUND), speed=u(56, 72), reach=u(130, 180) * (1 if rng.random() < .5 else -1),
               cycle=u(4.8, 5.8), sx=u(.15, .85) * W, sy=u(22, 46), sr=u(13, 17), level=u(-5, 5), amp=u(.85, 1.15), stretch=float(rng.integers(0, 2)))
    for i in range(6):
        row[f"ph{i}"] = u(0, 2 * math.pi)
    hues = rng.permutation(len(HUES))[:SLOTS]
    for s in range(SLOTS):
        row[f"mx{s}"], row[f"ms{s}"] = u(-40, 40), u(.9, 1.25)
        for i in range(3):
            row[f"m{s}{i}"] = float(np.clip(HUES[hues[s]][i] * (.25 + .75 * time["light"][i]) + time["add"][i], 0, 1))
    for i in range(3):
        row[f"top{i}"], row[f"low{i}"], row[f"sun{i}"] = time["top"][i], time["low"][i], time["sun"][i]
        row[f"g{i}"], row[f"n{i}"], row[f"li{i}"] = ground[i], snow[i], time["light"][i]
    n = len(spec["objects"])
    places = rng.permutation(n)
    for k in range(OBJECTS):
        on = k < n
        o = spec["objects"][k] if on else dict(shape="circle", colour="red", size="small", motion="stays")
        r = u(*SIZES[o["size"]]) * (1., .86, .72)[n - 1]
        x, y = u(.36, .64) * W, u(.42, .56) * H
        if n > 1 and on:
            x = ((.5 + places[k]) / n + u(-.06, .06)) * W
        colour = np.clip(np.array(COLOURS[o["colour"]]) + rng.uniform(-.02, .02, 3), 0, 1)
        row.update({f"on{k}": float(on), f"shape{k}": SHAPES.index(o["shape"]), f"motion{k}": MOTIONS.index(o["motion"]), f"r{k}": r, f"x{k}": x,
                    f"y{k}": y, f"v{k}": u(52, 64), f"T{k}": u(1.3, 1.6), f"p{k}": u(0, 1), f"R{k}": u(24, 32), f"s{k}": 1. if rng.random() < .5 else -1.})
        for i in range(3):
            row[f"c{k}{i}"] = colour[i]
    return row


KEYS = list(parameters(np.random.default_rng(0), draw_spec(np.random.default_rng(0))))
INDEX = {k: i for i, k in enumerate(KEYS)}


def sample(rng, n, specs=None):
    specs = specs or [draw_spec(rng) for _ in range(n)]
    rows = [parameters(rng, s) for s in specs]
    return torch.tensor([[float(r[k]) for k in KEYS] for r in rows]), [caption(rng, s) for s in specs], specs


# ---------------------------------------------------------------- outlines

def polygon_radius(points, n):
    """Distance from the origin to the outline, for n angles (the outline is star-shaped around the origin)."""
    p = np.asarray(points, float)
    q = np.roll(p, -1, 0)
    out = np.zeros(n)
    for i in range(n):
        a = 2 * math.pi * i / n - math.pi
        d = np.array([math.cos(a), math.sin(a)])
        e = q - p
        det = d[0] * -e[:, 1] + d[1] * e[:, 0]
        det = np.where(abs(det) < 1e-12, 1e-12, det)
        s = (p[:, 0] * -e[:, 1] + p[:, 1] * e[:, 0]) / det
        u = (d[0] * p[:, 1] - d[1] * p[:, 0]) / det
        ok = (u >= -1e-9) & (u <= 1 + 1e-9) & (s > 0)
        out[i] = s[ok].max()
    return out


def shape_table(n=720):
    star = [((1.22 if i % 2 == 0 else .56) * math.sin(math.pi * i / 5), -(1.22 if i % 2 == 0 else .56) * math.cos(math.pi * i / 5)) for i in range(10)]
    k = np.linspace(0, 2 * math.pi, 200, endpoint=False)
    heart = np.stack([16 * np.sin(k) ** 3, -(13 * np.cos(k) - 5 * np.cos(2 * k) - 2 * np.cos(3 * k) - np.cos(4 * k))], 1) / 15.5
    c = .40
    cross = [(-c, -1.05), (c, -1.05), (c, -c), (1.05, -c), (1.05, c), (c, c), (c, 1.05), (-c, 1.05), (-c, c), (-1.05, c), (-1.05, -c), (-c, -c)]
    shapes = [None, [(-.86, -.86), (.86, -.86), (.86, .86), (-.86, .86)], [(0, -1.15), (1.05, .72), (-1.05, .72)], star, heart, None,
              [(0, -1.2), (.78, 0), (0, 1.2), (-.78, 0)], cross]
    r = np.stack([np.ones(n) if s is None else polygon_radius(s, n) for s in shapes])
    slope = (np.roll(r, -1, 1) - np.roll(r, 1, 1)) / (4 * math.pi / n)
    return r.astype(np.float32), (1 / np.sqrt(1 + (slope / r) ** 2)).astype(np.float32)


_tables = {}


def tables(device):
    if device not in _tables:
        r, c = shape_table()
        _tables[device] = (torch.from_numpy(r).reshape(-1).to(device), torch.from_numpy(c).reshape(-1).to(device))
    return _tables[device]


# ---------------------------------------------------------------- geometry

TAU = 2 * math.pi


def col(P, n):
    return P[:, INDEX[n]][:, None]


def objects(P, k, t):
    """Centre, angle and radius of object k at times t: four [B,T] tensors."""
    m, r, x, y, v, T, p, R, s = (col(P, f"{n}{k}") for n in ("motion", "r", "x", "y", "v", "T", "p", "R", "s"))
    zero = torch.zeros_like(t + x)
    u = t / T + p
    u = u - torch.floor(u)
    floor = H - 12 - r
    span = W + 2.2 * r
    wrap = lambda z: z - span * torch.floor(z / span) - 1.1 * r
    a = TAU * (s * t / (2.4 * T) + p)
    ox = torch.where(m == 1, wrap(x + 1.1 * r - v * t), torch.where(m == 2, wrap(x + 1.1 * r + v * t), x + zero))
    oy = torch.where(m == 0, floor - (floor - r - 6) * .8 * 4 * u * (1 - u), y + zero)
    ox = torch.where(m == 3, x + R * torch.cos(a), ox)
    oy = torch.where(m == 3, y + .8 * R * torch.sin(a), oy)
    ox = torch.where(m == 4, x + 1.4 * R * torch.sin(a), ox)
    rr = torch.where(m == 5, r * (1 + .30 * torch.sin(TAU * (t / (1.3 * T) + p))), r + zero)
    angle = torch.where(m == 6, TAU * s * t / (2.4 * T), zero)
    return ox, oy, angle, rr


def camera(P, t):
    c = col(P, "camera")
    away = col(P, "reach") * (1 - torch.cos(TAU * t / col(P, "cycle"))) / 2
    return col(P, "x0") + torch.where(c == 1, -col(P, "speed") * t, torch.where(c == 2, col(P, "speed") * t, torch.where(c == 3, away, torch.zeros_like(t + c))))


def ridges(P, cx, t):
    """Heights of the far, middle and near skyline over the columns of each frame: [B,T,3,W]. Layer l moves with
    parallax p and repeats after p * AROUND of its own pixels, that is after AROUND of the camera's."""
    xs = torch.arange(W, device=P.device, dtype=torch.float32) + .5
    kind, amp = P[:, INDEX["scene"]][:, None, None], P[:, INDEX["amp"]][:, None, None]
    level = P[:, INDEX["level"]][:, None, None]
    out = []
    for l, (par, base, size) in enumerate(((.5, 84., 1.25), (.75, 104., 1.), (1., 128., .7))):
        a, b = P[:, INDEX[f"ph{2 * l}"]][:, None, None], P[:, INDEX[f"ph{2 * l + 1}"]][:, None, None]
        X = (cx[..., None] * par + xs) / (par * AROUND)  # turns around the panorama
        X = X - torch.floor(X)
        k = (3, 5, 6)[l]
        w = lambda n, ph: torch.sin(TAU * n * X + ph)
        hills = 11 * w(k, a) + 6 * w(2 * k + 1, b)
        soft = lambda n, ph: torch.asin(.97 * w(n, ph)) / 1.33
        peaks = 19 * soft(k + 1, a) + 11 * soft(2 * k + 1, b)
        dunes = 11 * torch.sin(TAU * k * X + a + .7 * w(k, a)) + 4 * w(k - 1, b)
        sea = 2.6 * torch.sin(TAU * (3 * k) * X + a + (1.1 - .2 * l) * t[..., None]) + (0, 14, 16)[l]
        trees = 13 * (w(2 * k + 2, a / 2) * 1.0).abs().clamp(min=1e-4) ** .8 + 5 * w(k, b) - 6
        cells = (8, 9, 10)[l]
        f = X * cells
        i = torch.floor(f)
        frac = f - i
        high = lambda n: torch.frac(torch.sin((n - cells * torch.floor(n / cells)) * 12.9898 + a * 3.7 + 1.3) * 437.58).abs()
        edge = ((frac - .5).abs() - .5) * (par * AROUND / cells)  # distance to the border of the block, negative inside
        nxt = torch.where(frac > .5, i + 1, i - 1)
        mix = (.5 + edge / 4).clamp(0, .5)
        city = 34 * (high(i) * (1 - mix) + high(nxt) * mix) - 14
        h = torch.where(kind == 0, hills, torch.where(kind == 1, peaks, torch.where(kind == 2, dunes, torch.where(kind == 3, sea, torch.where(kind == 4, trees, city)))))
        out.append(base + level * (1 - .3 * l) - size * amp * h * torch.where(kind == 3, 1 / (size * amp), torch.ones_like(amp)) * torch.where(kind == 3, -1., 1.))
    return torch.stack(out, 2)


def marks(P, cx):
    """The landmark that each column may show: offset from its middle, scale and three colour values, [B,T,5,W]."""
    xs = torch.arange(W, device=P.device, dtype=torch.float32) + .5
    X = cx[..., None] + xs
    X = X - AROUND * torch.floor(X / AROUND)
    slot = torch.floor(X / (AROUND / SLOTS)).clamp(0, SLOTS - 1)
    pickup = lambda n: sum(torch.where(slot == s, P[:, INDEX[n % s]][:, None, None], 0.) for s in range(SLOTS))
    dx = X - (slot + .5) * (AROUND / SLOTS) - pickup("mx%d")
    return torch.stack([dx, pickup("ms%d")] + [pickup("m%d" + str(i)) for i in range(3)], 2)


def draw(P, ridge, mark, o, R, C):
    """One fused elementwise pass. ridge [B,T,3,W], mark [B,T,5,W], o [B,T,3,4] -> [B,T,5,H,W]: colours, mask of the objects,
    mask of the landmarks (objects and the near ground in front of them taken off)."""
    g = lambda n: P[:, INDEX[n]][:, None, None, None]
    dev = P.device
    xs = torch.arange(W, device=dev, dtype=torch.float32)[None, None, None] + .5
    ys = torch.arange(H, device=dev, dtype=torch.float32)[None, None, :, None] + .5
    cov = lambda d, s=2.5: torch.clamp(.5 - d / s, 0, 1)  # share of a pixel inside, edges of s pixels
    scene, night = g("scene"), g("night")
    yl = [ridge[:, :, l][:, :, None] for l in range(3)]
    sky = torch.clamp(ys / 100, 0, 1)
    sd = torch.sqrt((xs - g("sx")) ** 2 + (ys - g("sy")) ** 2 + 1e-6) - g("sr")
    glow = torch.exp(-torch.clamp(sd, min=0) / 22) * .35
    disc = cov(sd, 3.)
    # layers: share covered, and a soft shade from the skyline down
    lay = [(cov(yl[l] - ys), torch.clamp((ys - yl[l]) / 70, 0, 1)) for l in range(3)]
    snow = torch.clamp(.5 + (yl[0] + 13 - ys) / 7, 0, 1) * (scene == 1) * torch.clamp((86 - yl[0]) / 10, 0, 1)
    # landmark, standing on the near ground
    dx, s = mark[:, :, 0][:, :, None], mark[:, :, 1][:, :, None]
    foot = yl[2] * 0 + 134.
    u, v = (dx / s).abs(), (foot - ys) / s
    kind = g("landmark")
    box = lambda hw, lo, hi: torch.maximum(u - hw, (v - (lo + hi) / 2).abs() - (hi - lo) / 2)
    ball = lambda cy, r: torch.sqrt(u * u + (v - cy) ** 2 + 1e-6) - r
    roof = lambda hw, lo, hi: torch.maximum((u - hw * (hi - v) / (hi - lo)) * .75, lo - v)
    a1 = torch.where(kind == 0, ball(52., 23.), torch.where(kind == 1, roof(15., 70., 92.), torch.where(kind == 2, roof(31., 34., 60.), ball(84., 22.))))
    a2 = torch.where(kind == 0, box(4.5, -20., 40.), torch.where(kind == 1, torch.maximum(u - 8 - (70 - v) * .07, (v - 25.).abs() - 46.),
                     torch.where(kind == 2, box(24., -20., 36.), torch.maximum(torch.maximum(u - 6 - (v - 52).clamp(0, 20) * .45, (v - 58.).abs() - 14.), -v))))
    a1, a2 = cov(a1 * s, 2.5), cov(a2 * s, 2.5)
    side = torch.clamp(.5 - dx / (s * 44), 0, 1)  # light from the left
    n = R.shape[0] // len(SHAPES)
    layers = []
    for k in range(OBJECTS):
        ox, oy, an, r = (o[:, :, k, i][..., None, None] for i in range(4))
        dx, dy = xs - ox, ys - oy
        rho = torch.sqrt(dx * dx + dy * dy + 1e-6)
        f = ((torch.atan2(dy, dx) - an) / TAU + .5)
        f = (f - torch.floor(f)) * n
        i0 = torch.clamp(torch.floor(f), 0, n - 1)
        w = f - i0
        base = g(f"shape{k}").to(torch.int32) * n
        j0 = base + i0.to(torch.int32)
        j1 = base + torch.where(i0 + 1 >= n, torch.zeros_like(i0), i0 + 1).to(torch.int32)
        d = (rho - r * (R[j0] * (1 - w) + R[j1] * w)) * C[j0]
        d = torch.where(g(f"shape{k}") == 5, torch.maximum(d, .52 * r - rho), d)
        on = g(f"on{k}")
        shade = torch.clamp(.5 - (dx * .35 + dy * .65) / (2.2 * r), 0, 1)  # light from above, a little from the left
        high = torch.clamp((H - 10 - oy - r) / 90, 0, 1)
        sh = torch.sqrt(((xs - ox) / (r * 1.05)) ** 2 + ((ys - (H - 9)) / 7.) ** 2 + 1e-6)
        layers.append((cov(d, 2.6) * on, shade, torch.clamp(1.25 - sh, 0, 1) * (.42 - .28 * high) * on))
    shadow = torch.clamp(sum(l[2] for l in layers), 0, .45)
    out = []
    for ch in range(3):
        top, low, ground, light = g(f"top{ch}"), g(f"low{ch}"), g(f"g{ch}"), g(f"li{ch}")
        z = top + (low - top) * sky
        sun = g(f"sun{ch}")
        z = z + (sun - z) * torch.clamp(glow + disc, 0, 1)
        for l, haze in ((0, .62), (1, .32)):
            c, sh = lay[l]
            body = ground + (low - ground) * haze
            if l == 0:
                body = body + (g(f"n{ch}") - body) * snow
            z = z + (body * (1.03 - .22 * sh) - z) * c
        hue = mark[:, :, 2 + ch][:, :, None]
        stem = torch.where(kind == 0, (.40, .27, .20)[ch] * light, torch.where(kind == 3, (.45, .32, .22)[ch] * light, (.93, .89, .82)[ch] * (.2 + .8 * light)))
        z = z + (stem * (.82 + .22 * side) - z) * a2
        z = z + (hue * (.80 + .28 * side) - z) * a1
        c, sh = lay[2]
        z = z + (ground * (1.06 - .30 * sh) - z) * c
        z = z * (1 - shadow)
        for k in range(OBJECTS):
            c, shade, _ = layers[k]
            z = z + (torch.clamp(g(f"c{k}{ch}") * (.74 + .30 * shade) + .07 * shade * shade, 0, 1) - z) * c
        out.append(z)
    solid = torch.clamp(sum(l[0] for l in layers), 0, 1) + 0 * out[0]
    out += [solid, torch.maximum(a1, a2) * (1 - lay[2][0]) * (1 - solid)]
    return torch.stack(out, 2)


_draw = {"fn": draw, "frames": 0}


def compile_renderer(frames=64):
    """From now on in pieces of that many frames, whatever the clips: one compilation for every use."""
    _draw.update(fn=torch.compile(draw, dynamic=False), frames=frames)


def pieces(P, *rest):
    """`draw` on single frames, a fixed number at a time; the last piece is filled up with copies of its last frame."""
    B, T = rest[0].shape[:2]
    n = _draw["frames"]
    flat = [P.repeat_interleave(T, 0)] + [x.flatten(0, 1)[:, None] for x in rest]
    fill = -B * T % n
    if fill:
        flat = [torch.cat([x, x[-1:].expand(fill, *x.shape[1:])]) for x in flat]
    out = [_draw["fn"](*(x[i:i + n] for x in flat), *tables(P.device)) for i in range(0, B * T, n)]
    return (torch.cat(out) if len(out) > 1 else out[0])[:B * T].reshape(B, T, -1, H, W)


@torch.no_grad()
def render(P, frames, start=0.0, mask=False, stride=1):
    """P [B,keys] on the target device -> video [B,frames,3,H,W] in 0..1 (with mask: [B,frames,5,H,W], the masks of the objects
    and of the landmarks last), every stride-th frame; start in seconds, one number or one per clip."""
    start = torch.as_tensor(start, dtype=torch.float32, device=P.device).reshape(-1, 1)
    t = (torch.arange(frames, device=P.device, dtype=torch.float32)[None] * (stride / FPS) + start).expand(P.shape[0], -1)
    o = torch.stack([torch.stack(objects(P, k, t), -1) for k in range(OBJECTS)], 2)
    cx = camera(P, t)
    scene = ridges(P, cx, t), marks(P, cx), o
    v = pieces(P, *scene) if _draw["frames"] else _draw["fn"](P, *scene, *tables(P.device))
    return v if mask else v[:, :, :3]


if __name__ == "__main__":
    import sys
    from PIL import Image
    rng = np.random.default_rng(int(sys.argv[2]) if len(sys.argv) > 2 else 5)
    P, caps, _ = sample(rng, 10)
    v = torch.cat([render(P[i:i + 1], 1, start=s) for i in range(10) for s in (0., 1., 2., 3., 4., 5.)]).reshape(10, 6, 3, H, W)
    im = (v.permute(0, 3, 1, 4, 2).reshape(10 * H, -1, 3).clamp(0, 1) * 255).byte().numpy()
    Image.fromarray(im).save(sys.argv[1] if len(sys.argv) > 1 else "world.png")
    print("\n".join(caps))
