"""The teacher of stage B again, from the shipped student and the difference between the two.

usage: restore_teacher.py MODEL_FOLDER OUT [DELTA (state/teacher.delta)]
       restore_teacher.py --make MODEL_FOLDER TEACHER_CHECKPOINT [DELTA]

The file holds, for each tensor that differs, the difference in 8 bits with one scale (or, for tensors that 8 bits would spoil, the
tensor itself in float16): three lengths, a JSON list of [name, shape, scale], the differences deflated, the whole tensors.
The restored weights are within 0.14% of the teacher's (relative L2, measured; the student is off by 0.96%). It belongs
to the weights of this commit: another student gives another, wrong teacher.
"""
import json
import os
import struct
import sys
import zlib

import numpy as np
import torch

from common import load_model_folder, load_parts, save_parts

HERE = os.path.dirname(os.path.abspath(__file__))


def restore(delta, weights):
    """`weights`: the student by name; becomes the teacher."""
    data = open(delta, "rb").read()
    n_names, n_deflated, _ = struct.unpack("<III", data[:12])
    names = json.loads(data[12:12 + n_names])
    steps = np.frombuffer(zlib.decompress(data[12 + n_names:12 + n_names + n_deflated]), np.int8)
    whole = np.frombuffer(data[12 + n_names + n_deflated:], np.float16)
    i = j = 0
    for name, shape, scale in names:
        n = int(np.prod(shape))
        if scale:
            step = torch.from_numpy(steps[i:i + n].astype(np.float32)).reshape(shape)
            weights[name] = (weights[name].float() + step * scale).to(torch.bfloat16)
            i += n
        else:
            weights[name] = torch.from_numpy(whole[j:j + n].copy()).reshape(shape).to(torch.bfloat16)
            j += n
    assert i == len(steps) and j == len(whole), "the file does not end where its list ends"
    return weights


def packed(data):
    c = zlib.compressobj(6, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
    return c.compress(data) + c.flush()


def make(teacher, student, path):
    """Writes the difference of two dictionaries of tensors."""
    names, steps, whole = [], [], []
    for name, s in student.items():
        d = teacher[name].float() - s.float()
        if not d.any():
            continue  # what is not named is the same
        scale = max(float(d.pow(2).mean().sqrt()) / 2, float(d.abs().max()) / 127)
        q = torch.round(d / scale)
        names.append([name, list(s.shape), 0 if d.numel() < 4096 else scale])  # norms, biases and tables are few: as they are
        if names[-1][2]:
            steps.append(q.to(torch.int8).numpy().tobytes())
        else:
            whole.append(teacher[name].to(torch.float16).numpy().tobytes())
    head, body, tail = json.dumps(names).encode(), packed(b"".join(steps)), b"".join(whole)
    with open(path, "wb") as f:
        f.write(struct.pack("<III", len(head), len(body), len(tail)) + head + body + tail)


if __name__ == "__main__" and sys.argv[1] == "--make":
    model, teacher = sys.argv[2:4]
    delta = sys.argv[4] if len(sys.argv) > 4 else HERE + "/state/teacher.delta"
    student = {k: v for k, v in load_model_folder(model).items() if not k.startswith("vae.")}
    truth = load_parts(teacher)
    make(truth, student, delta)
    back = restore(delta, dict(student))
    off = lambda x: float(sum((x[k].float() - truth[k].float()).pow(2).sum() for k in student) / sum(truth[k].float().pow(2).sum() for k in student)) ** .5
    print("%.1f MB, restored to %.2f%%, the student itself is off by %.2f%%" % (os.path.getsize(delta) / 1e6, 100 * off(back), 100 * off(student)))
elif __name__ == "__main__":
    model, out = sys.argv[1:3]
    delta = sys.argv[3] if len(sys.argv) > 3 else HERE + "/state/teacher.delta"
    os.makedirs(out, exist_ok=True)
    save_parts(restore(delta, load_model_folder(model)), out)
    print("teacher restored into", out)
