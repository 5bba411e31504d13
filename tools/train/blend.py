"""A checkpoint part of the way from the model that it began as: what training never asked for is kept better (Wortsman et al.,
arXiv 2109.01903). usage: blend.py MODEL CHECKPOINT OUT SHARE"""
import os, sys
import torch
from common import load_model_folder, load_parts, save_parts

model, checkpoint, out, share = *sys.argv[1:4], float(sys.argv[4])
old, new = load_parts(model) or load_model_folder(model), load_parts(checkpoint)
os.makedirs(out, exist_ok=True)
save_parts({k: v if not k.startswith("tf.") else torch.lerp(old[k].float(), v.float(), share).to(torch.bfloat16) for k, v in new.items()}, out)
print("blended", share, "into", out)
