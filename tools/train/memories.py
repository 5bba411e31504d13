"""The ways to remember that are measured, by name: what a rollout of the model may look back at."""
import json, os
import torch
from safetensors import safe_open
from common import part, load_parts, load_model_folder
from sparse import SparseWan
from wan import Wan

# name: (class, window, sink, positions by rank)
KINDS = {"window": (Wan, 21, 0, False),  # 21 frames
         "sink": (Wan, 21, 3, True),     # 21 frames, the first chunk kept: what the model was distilled with
         "short": (Wan, 12, 0, False),   # 12 frames: as much as `sparse` holds
         "short-sink": (Wan, 12, 3, True),
         "sparse": (SparseWan, 12, 3, True)}  # 6 frames' worth of persistent blocks beside 6, a quarter of them read


def merge(weights, path):
    """`weights` (without prefix) plus the low-rank differences of a file with PEFT's names."""
    with safe_open(path, "pt") as f:
        alpha, t = float(f.metadata()["alpha"]), {k.removeprefix("base_model.model."): f.get_tensor(k).float() for k in f.keys()}
    for k in [k for k in t if k.endswith(".lora_A.weight")]:
        name, A, B = k.removesuffix(".lora_A.weight"), t[k], t[k.replace(".lora_A.", ".lora_B.")]
        weights[name + ".weight"] = weights[name + ".weight"] + alpha / A.shape[0] * (B @ A)
    return weights


def model(folder, kind, dev, lora=None):
    """The transformer of a folder with a memory of that kind, ready to roll out; and all of the folder's weights."""
    ck = load_parts(folder) or load_model_folder(folder)
    cls, window, sink, ranks = KINDS[kind]
    m = cls().to(dev).eval()
    m.load_state_dict(merge(part(ck, "tf."), lora) if lora else part(ck, "tf."))
    m.window, m.sink, m.ranks = window, sink, ranks
    return m, ck
