"""A checkpoint part of the way from the model that it began as: what training never asked for is kept better (Wortsman et al.,
arXiv 2109.01903). usage: blend.py MODEL CHECKPOINT OUT SHARE
An addition part of the way from another one, at its own rank: blend.py OLD.safetensors NEW.safetensors OUT.safetensors SHARE [PART]
(with PART, attn1 say, only in the layers whose names have it)"""
import os, sys
import torch
from safetensors.torch import save_file
from common import load_model_folder, load_parts, save_parts
from sparse import read_lora

model, checkpoint, out, share, where = *sys.argv[1:4], float(sys.argv[4]), "".join(sys.argv[5:])
if checkpoint.endswith(".safetensors"):
    old, new, made, off = read_lora(model), read_lora(checkpoint), {}, []
    rank = max(len(A) for A, _ in new.values())
    for name, (A, B) in new.items():
        w = torch.lerp(old[name][1] @ old[name][0], B @ A, share if where in name else 0.)
        u, s, v = torch.linalg.svd(w, full_matrices=False)
        r = s[:rank].sqrt()
        made[f"base_model.model.{name}.lora_A.weight"], made[f"base_model.model.{name}.lora_B.weight"] = (x.to(torch.bfloat16).contiguous() for x in (r[:, None] * v[:rank], u[:, :rank] * r))
        off.append(float(s[rank:].pow(2).sum() / s.pow(2).sum()))
    save_file(made, out, metadata={"format": "pt", "alpha": str(rank)})
    print("blended %s into %s, rank %d, %.2f%% of its square lost" % (share, out, rank, 100 * max(off)))
else:
    old, new = load_parts(model) or load_model_folder(model), load_parts(checkpoint)
    os.makedirs(out, exist_ok=True)
    save_parts({k: v if not k.startswith("tf.") else torch.lerp(old[k].float(), v.float(), share).to(torch.bfloat16) for k, v in new.items()}, out)
    print("blended", share, "into", out)
