import torch, wan
from diffusers import WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel
torch.manual_seed(0)
m = wan.Wan(); t = wan.UMT5(1280)
with torch.no_grad():
    for p in m.parameters(): p.add_(torch.randn_like(p) * .02)
d = WanTransformer3DModel(num_attention_heads=3, attention_head_dim=128, ffn_dim=1536, num_layers=6, text_dim=256, in_channels=16, out_channels=16, freq_dim=256, patch_size=(1,2,2), cross_attn_norm=True, qk_norm="rms_norm_across_heads", eps=1e-6, rope_max_seq_len=1024)
print(d.load_state_dict(m.state_dict(), strict=True))
h = UMT5EncoderModel(UMT5Config(vocab_size=1280, d_model=256, d_kv=64, d_ff=512, num_layers=2, num_heads=4, is_encoder_decoder=False)).eval()
sd = t.state_dict()
print(h.load_state_dict(sd, strict=False))
ids = torch.randint(4, 900, (2, 47)); n = torch.tensor([20, 13])
with torch.no_grad():
    e = t(ids, n)
    for i in range(2):
        r = h(ids[i:i+1, :n[i]]).last_hidden_state[0]
        print("umt5", float((e[i, :n[i]] - r).norm() / r.norm()))
    lat = torch.randn(2, 3, 16, 8, 12)
    v = m.bidir(lat, torch.full((2, 3), 437.), m.text(e, n))
    ctx = torch.zeros(2, 512, 256); ctx[:, :47] = e
    r = d(lat.transpose(1, 2), timestep=torch.tensor([437., 437.]), encoder_hidden_states=ctx, return_dict=False)[0].transpose(1, 2)
    print("wan", float((v - r).norm() / r.norm()))
    # teacher forcing against the chunk-by-chunk memory
    c = torch.randn(2, 27, 16, 8, 12); x = torch.randn_like(c); tt = torch.rand(2, 9).repeat_interleave(3, 1) * 1000
    kv = m.text(e, n)
    a = m.forced(c, x, tt, kv)
    mem = m.memory(); outs = []
    for f in range(0, 27, 3):
        outs.append(m.chunk(x[:, f:f+3], tt[:, f:f+3], kv, mem, f)); m.chunk(c[:, f:f+3], torch.zeros(2, 3), kv, mem, f, keep=True)
    b = torch.cat(outs, 1)
    print("forced vs memory", float((a - b).norm() / b.norm()))
    # clips of two kinds at once against one kind after the other
    y, ty = torch.randn(1, 4, 16, 8, 12), torch.rand(1, 1).expand(1, 4) * 1000
    ids3, n3 = torch.randint(4, 900, (3, 47)), torch.tensor([20, 13, 31])
    kv3 = m.text(t(ids3, n3), n3)
    cut = lambda s: ([(k[s], v[s]) for k, v in kv3[0]], kv3[1][s])
    a1, a2 = m.mixed([(x, tt, c[:, :-3]), (y, ty, None)], kv3)
    b1, b2 = m.forced(c, x, tt, cut(slice(0, 2))), m.bidir(y, ty, cut(slice(2, 3)))
    print("mixed", float((a1 - b1).norm() / b1.norm()), float((a2 - b2).norm() / b2.norm()))
    # ranks beside a sink are the frame numbers until the window is full; keys turn from one frame to another
    m.sink, m.ranks, mem2, outs = 3, True, m.memory(), []
    for f in range(0, 21, 3):
        outs.append(m.chunk(x[:, f:f+3], tt[:, f:f+3], kv, mem2, f)); m.chunk(c[:, f:f+3], torch.zeros(2, 3), kv, mem2, f, keep=True)
    b = torch.cat(outs, 1)
    print("ranks", float((a[:, :21] - b).norm() / b.norm()), "kept", [q[2] for q in mem2[0]["past"]])
    k = torch.randn(1, 30, 3, 128)
    at = lambda p: wan.rot(k.reshape(3, 10, 3, 128), *m.rope(torch.tensor(p), 2, 5)).reshape(k.shape)
    print("turn", float((wan.turn(at([7, 8, 9]), torch.tensor([-3] * 3)) - at([4, 5, 6])).abs().max()))
