"""The Wan 2.1 autoencoder at small width (tensor names of diffusers' AutoencoderKLWan), whole clips at once, for training.

A causal 3x3x3 convolution is done as a 3x3 one over three frames side by side, which fills a GPU better at few channels. Pixels in
-1..1 inside, 0..1 outside; latents as they are (mean 0, deviation 1)."""
import torch
import torch.nn as nn
import torch.nn.functional as F

CHANNELS, MULTIPLIERS, BLOCKS, TIME = 16, (1, 2, 4, 4), 2, (False, True, True)


def flat(f, x):
    """A function of frames [N,C,H,W] on clips [B,T,C,H,W]."""
    y = f(x.flatten(0, 1))
    return y.reshape(*x.shape[:2], *y.shape[1:])


def past(x, n):
    """n frames of zeros in front."""
    return F.pad(x, (0, 0, 0, 0, 0, 0, n, 0))


class Causal(nn.Conv3d):
    """[B,T,C,H,W] in and out"""
    def __init__(self, i, o, k=3):
        super().__init__(i, o, k, padding=0)
        self.k = k

    def forward(self, x):
        T, w = x.shape[1], self.weight
        if self.k == 1:
            return flat(lambda z: F.conv2d(z, w[:, :, 0], self.bias), x)
        y = past(x, 2)
        y = torch.cat([y[:, j:j + T] for j in range(3)], 2)
        return flat(lambda z: F.conv2d(z.contiguous(memory_format=torch.channels_last), w.permute(0, 2, 1, 3, 4).flatten(1, 2), self.bias, padding=1), y)


class TimeConv(nn.Conv3d):
    def __init__(self, i, o):
        super().__init__(i, o, (3, 1, 1))

    def forward(self, x, stride=1, pad=2):
        y = past(x, pad)
        n = (y.shape[1] - 3) // stride + 1
        y = torch.cat([y[:, j:j + (n - 1) * stride + 1:stride] for j in range(3)], 2)
        return flat(lambda z: F.conv2d(z, self.weight[..., 0, 0].permute(0, 2, 1).flatten(1)[..., None, None], self.bias), y)


class Norm(nn.Module):
    def __init__(self, n, dims=3):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(n, *[1] * dims))

    def forward(self, x):
        """Channels are the third from the end."""
        return F.normalize(x.float(), dim=-3).to(x.dtype) * (x.shape[-3] ** .5) * self.gamma.reshape(-1, 1, 1)


class Residual(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.norm1, self.conv1, self.norm2, self.conv2 = Norm(i), Causal(i, o), Norm(o), Causal(o, o)
        self.conv_shortcut = Causal(i, o, 1) if i != o else None

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.conv_shortcut(x) if self.conv_shortcut is not None else x)


class Attention(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.norm, self.to_qkv, self.proj = Norm(n, 2), nn.Conv2d(n, 3 * n, 1), nn.Conv2d(n, n, 1)

    def forward(self, x):
        def f(z):
            q, k, v = self.to_qkv(self.norm(z)).flatten(2).transpose(1, 2)[:, None].chunk(3, -1)
            return self.proj(F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).reshape(z.shape))
        return x + flat(f, x)


class Middle(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList([Residual(n, n), Residual(n, n)]), nn.ModuleList([Attention(n)])

    def forward(self, x):
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Resample(nn.Module):
    def __init__(self, n, up, time):
        super().__init__()
        self.up = up
        conv = nn.Conv2d(n, n // 2, 3, padding=1) if up else nn.Conv2d(n, n, 3, stride=2)
        self.resample = nn.Sequential(nn.Identity(), conv)
        self.time_conv = (TimeConv(n, 2 * n) if up else TimeConv(n, n)) if time else None

    def forward(self, x):
        if self.up:
            if self.time_conv is not None and x.shape[1] > 1:  # the first frame stays one frame
                y = self.time_conv(x[:, 1:])
                y = y.reshape(y.shape[0], y.shape[1], 2, -1, *y.shape[-2:]).flatten(1, 2)
                x = torch.cat([x[:, :1], y], 1)
            return flat(lambda z: self.resample[1](F.interpolate(z, scale_factor=2, mode="nearest")), x)
        x = flat(lambda z: self.resample[1](F.pad(z, (0, 1, 0, 1))), x)
        if self.time_conv is not None and x.shape[1] > 1:
            x = torch.cat([x[:, :1], self.time_conv(x, 2, 0)], 1)
        return x


class UpBlock(nn.Module):
    def __init__(self, i, o, up, time):
        super().__init__()
        self.resnets = nn.ModuleList([Residual(i if j == 0 else o, o) for j in range(BLOCKS + 1)])
        self.upsamplers = nn.ModuleList([Resample(o, True, time)]) if up else None

    def forward(self, x):
        for r in self.resnets:
            x = r(x)
        return self.upsamplers[0](x) if self.upsamplers is not None else x


class Encoder(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.conv_in, layers, n = Causal(3, base), [], base
        for l, m in enumerate(MULTIPLIERS):
            for _ in range(BLOCKS):
                layers.append(Residual(n, base * m)); n = base * m
            if l < len(TIME):
                layers.append(Resample(n, False, TIME[l]))
        self.down_blocks, self.mid_block = nn.ModuleList(layers), Middle(n)
        self.norm_out, self.conv_out = Norm(n), Causal(n, 2 * CHANNELS)

    def forward(self, x):
        x = self.conv_in(x)
        for l in self.down_blocks:
            x = l(x)
        return self.conv_out(F.silu(self.norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    def __init__(self, base):
        super().__init__()
        n = base * MULTIPLIERS[-1]
        self.conv_in, self.mid_block, blocks = Causal(CHANNELS, n), Middle(n), []
        for l, m in enumerate(reversed(MULTIPLIERS)):
            up = l < len(TIME)
            blocks.append(UpBlock(n, base * m, up, up and TIME[::-1][l]))
            n = base * m // 2 if up else base * m
        self.up_blocks = nn.ModuleList(blocks)
        self.norm_out, self.conv_out = Norm(n), Causal(n, 3)

    def forward(self, x):
        x = self.mid_block(self.conv_in(x))
        for b in self.up_blocks:
            x = b(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class WanVAE(nn.Module):
    def __init__(self, base=8, decoder_base=12):
        super().__init__()
        self.encoder, self.decoder = Encoder(base), Decoder(decoder_base)
        self.quant_conv, self.post_quant_conv = Causal(2 * CHANNELS, 2 * CHANNELS, 1), Causal(CHANNELS, CHANNELS, 1)

    def encode(self, video):
        """[B,4n-3,3,H,W] -> means [B,n,16,H/8,W/8]"""
        return self.quant_conv(self.encoder(2 * video - 1))[:, :, :CHANNELS]

    def decode(self, latents):
        """[B,n,16,h,w] -> [B,4n-3,3,8h,8w], not clamped"""
        return (self.decoder(self.post_quant_conv(latents)) + 1) / 2


CONFIG = lambda base, decoder_base: {
    "_class_name": "AutoencoderKLWan", "_diffusers_version": "0.35.0", "base_dim": base, "decoder_base_dim": decoder_base, "z_dim": CHANNELS,
    "dim_mult": list(MULTIPLIERS), "num_res_blocks": BLOCKS, "attn_scales": [], "temperal_downsample": list(TIME), "dropout": 0.0,
    "latents_mean": [0.0] * CHANNELS, "latents_std": [1.0] * CHANNELS}

if __name__ == "__main__":
    from diffusers import AutoencoderKLWan
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    m = WanVAE()
    for n, p in m.named_parameters():
        p.copy_(torch.randn_like(p) * (.3 if "gamma" not in n else .1) + ("gamma" in n))
    d = AutoencoderKLWan(**{k: v for k, v in CONFIG(8, 12).items() if not k.startswith("_")}).eval()
    d.load_state_dict(m.state_dict(), strict=True)
    x, z = torch.rand(1, 9, 3, 32, 48), torch.randn(1, 3, 16, 4, 6)
    rel = lambda a, b: float((a - b).norm() / b.norm())
    a, b = m.encode(x), d.encode((2 * x - 1).transpose(1, 2)).latent_dist.mean.transpose(1, 2)
    print("encoder against diffusers", tuple(a.shape), rel(a, b))
    a, b = m.decode(z), d.decode(z.transpose(1, 2)).sample.transpose(1, 2)
    print("decoder against diffusers", tuple(a.shape), rel(2 * a.clamp(0, 1) - 1, b), "parameters", sum(p.numel() for p in m.parameters()))
