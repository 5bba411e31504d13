"""The ways to remember that are measured, by name: what a rollout of the model may look back at."""
import os
from common import part, load_parts, load_model_folder
from sparse import LightWan, SparseWan, read_lora
from wan import CHUNK, Wan

# name: (class, window, sink, positions by rank)
KINDS = {"window": (Wan, 21, 0, False),  # 21 frames
         "sink": (Wan, 21, 3, True),     # 21 frames, the first chunk kept
         "short": (Wan, 12, 0, False),   # 12 frames: what the model was distilled with, and as much as `sparse` holds
         "short-sink": (Wan, 12, 3, True),
         "sparse": (SparseWan, 12, 3, True),  # 6 frames' worth of persistent blocks beside 6, a quarter of them read
         "light": (LightWan, 21, 3, True)}    # the frames of `sink`, ever fewer blocks of them read
RECIPE = {"sparse": "sparse-forcing", "light": "light-forcing", "short": "sparse-forcing"}  # whose addition KIND+lora takes; short+lora has
# the weights of sparse+lora without its memory


def merge(weights, path):
    """`weights` (without prefix) plus the low-rank differences of a file with PEFT's names."""
    for name, (A, B) in read_lora(path).items():
        weights[name + ".weight"] = weights[name + ".weight"] + B @ A
    return weights


def model(folder, kind, dev, lora=None, frames=21):
    """The transformer of a folder with a memory of that kind, ready for a rollout of `frames` latent frames; and all of the folder's
    weights. KIND+lora takes the addition of its recipe from the folder `lora`."""
    ck = load_parts(folder) or load_model_folder(folder)
    added, kind = kind.endswith("+lora"), kind.removesuffix("+lora")
    cls, window, sink, ranks = KINDS[kind]
    m = cls().to(dev).eval()
    w = part(ck, "tf.")
    m.load_state_dict(merge(w, os.path.join(lora, RECIPE[kind] + ".safetensors")) if added else w)
    m.window, m.sink, m.ranks, m.planned = window, sink, ranks, frames // CHUNK
    return m, ck
