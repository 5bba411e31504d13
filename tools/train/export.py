"""Checkpoint parts -> model folder in the diffusers layout.
usage: export.py CKPT_FOLDER OUT [--vae FOLDER] [--distilled] [--stage TEXT]"""
import argparse, json, os
import torch
from safetensors.torch import save_file
from common import load_model_folder, load_parts
from wan import STEPS as steps

ap = argparse.ArgumentParser()
ap.add_argument("ckpt"); ap.add_argument("out"); ap.add_argument("--vae", help="take the autoencoder from here"); ap.add_argument("--stats", help="stats.json of stage 0")
ap.add_argument("--distilled", action="store_true"); ap.add_argument("--stage", default=""); ap.add_argument("--frames", type=int, default=24, help="longest clip of the training, in latent frames")
ap.add_argument("--window", type=int, default=21); ap.add_argument("--sink", type=int, default=3, help="the memory that it was distilled with, in frames")
a = ap.parse_args()
src, out = a.ckpt, a.out
ck = load_parts(src) or load_model_folder(src)
if a.vae:
    ck = {k: v for k, v in ck.items() if not k.startswith("vae.")} | load_parts(a.vae, "vae")
os.makedirs(out, exist_ok=True)
dump = lambda obj, *p: (os.makedirs(os.path.dirname(os.path.join(out, *p)), exist_ok=True), json.dump(obj, open(os.path.join(out, *p), "w"), indent=2))
tf = {k[3:]: v.to(torch.bfloat16).contiguous() for k, v in sorted(ck.items()) if k.startswith("tf.")}
te = {k[3:]: v.to(torch.bfloat16).contiguous() for k, v in ck.items() if k.startswith("te.")}
vae = {k[4:]: v.to(torch.float16).contiguous() for k, v in ck.items() if k.startswith("vae.")}
# transformer shards under 15 MB
limit, shards, cur, size = 14_000_000, [], {}, 0
for k, v in tf.items():
    n = v.numel() * 2
    if size + n > limit:
        shards.append(cur); cur, size = {}, 0
    cur[k] = v; size += n
shards.append(cur)
index = {}
os.makedirs(f"{out}/transformer", exist_ok=True)
for f in os.listdir(f"{out}/transformer"):
    os.remove(f"{out}/transformer/{f}")
for i, s in enumerate(shards):
    name = f"diffusion_pytorch_model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
    save_file(s, f"{out}/transformer/{name}", metadata={"format": "pt"})
    index.update({k: name for k in s})
dump({"metadata": {"total_size": sum(v.numel() * 2 for v in tf.values())}, "weight_map": index}, "transformer", "diffusion_pytorch_model.safetensors.index.json")
dump({"_class_name": "WanTransformer3DModel", "_diffusers_version": "0.35.0", "added_kv_proj_dim": None, "attention_head_dim": 128, "cross_attn_norm": True,
      "eps": 1e-6, "ffn_dim": 1536, "freq_dim": 256, "image_dim": None, "in_channels": 16, "num_attention_heads": 3, "num_layers": 6, "out_channels": 16,
      "patch_size": [1, 2, 2], "qk_norm": "rms_norm_across_heads", "rope_max_seq_len": 1024, "text_dim": 256}, "transformer", "config.json")
os.makedirs(f"{out}/text_encoder", exist_ok=True)
save_file(te, f"{out}/text_encoder/model.safetensors", metadata={"format": "pt"})
dump({"architectures": ["UMT5EncoderModel"], "model_type": "umt5", "vocab_size": te["shared.weight"].shape[0], "d_model": 256, "d_kv": 64, "d_ff": 512, "num_layers": 2,
      "num_heads": 4, "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu_new",
      "is_gated_act": True, "layer_norm_epsilon": 1e-6, "is_encoder_decoder": False, "use_cache": False, "tie_word_embeddings": True, "pad_token_id": 0, "eos_token_id": 1, "dtype": "bfloat16"},
     "text_encoder", "config.json")
os.makedirs(f"{out}/tokenizer", exist_ok=True)
open(f"{out}/tokenizer/tokenizer.json", "w").write(open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer.json")).read())
dump({"tokenizer_class": "T5TokenizerFast", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "extra_ids": 0, "model_max_length": 512}, "tokenizer", "tokenizer_config.json")
os.makedirs(f"{out}/tiny_vae", exist_ok=True)
save_file(vae, f"{out}/tiny_vae/diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
w = [vae["decoder.1.weight"].shape[0], vae["decoder.8.weight"].shape[0], vae["decoder.14.weight"].shape[0], vae["decoder.20.weight"].shape[0]]
stats = json.load(open(a.stats)) if a.stats else {"mean": [0.0] * 16, "std": [1.0] * 16}
dump({"_class_name": "TAEHV", "latent_channels": 16, "decoder_widths": w, "encoder_width": vae["encoder.0.weight"].shape[0], "patch_size": 1, "temporal_grow": [1, 2, 2],
      "temporal_downscale": 4, "spatial_downscale": 8, "frames_to_trim": 3, "pixel_range": [0, 1],
      "latents_mean": [0.0] * 16, "latents_std": [1.0] * 16, "scaling_factor": 1.0,
      "measured_latent_mean": stats["mean"], "measured_latent_std": stats["std"],
      "note": "the statistics are folded into encoder.17 and decoder.1: latents of the transformer are what encode gives and decode takes"}, "tiny_vae", "config.json")
dump({"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 5.0, "use_dynamic_shifting": False}, "scheduler", "scheduler_config.json")
dump({"_class_name": "WanPipeline", "transformer": ["diffusers", "WanTransformer3DModel"], "vae": [None, None], "text_encoder": ["transformers", "UMT5EncoderModel"],
      "tokenizer": ["transformers", "T5TokenizerFast"], "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]}, "model_index.json")
dump({"name": "panorama", "height": 160, "width": 256, "fps": 16, "latent_channels": 16, "latent_height": 20, "latent_width": 32, "tokens_per_frame": 160, "chunk_frames": 3,
      "window_frames": a.window, "sink_frames": a.sink, "recipes": {"light-forcing": {"window_frames": 21, "sink_frames": 3}}, "steps": steps, "sigmas": [s / 1000 for s in steps], "shift": 5.0, "context_noise": 0.0, "guidance": 1.0,
      "text_length": 512, "trained_frames": a.frames, "distilled": a.distilled, "steps_undistilled": [round(1000 * 5 * u / (1 + 4 * u), 4) for u in (1 - i / 12 for i in range(12))], "vae": "tiny_vae", "stage": a.stage}, "longtake.json")
print("exported", {k: round(sum(os.path.getsize(f"{out}/{k}/{f}") for f in os.listdir(f"{out}/{k}")) / 1e6, 2) for k in ("transformer", "text_encoder", "tiny_vae", "tokenizer")}, "widths", w)
