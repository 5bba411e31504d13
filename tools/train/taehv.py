"""The TAEHV autoencoder at free widths (tensor names of the published one). Pixels in 0..1, latents normalised."""
import torch
import torch.nn as nn
import torch.nn.functional as F

CHANNELS, GROW = 16, (1, 2, 2)


def conv(i, o, **kw):
    return nn.Conv2d(i, o, 3, padding=1, **kw)


class Clamp(nn.Module):
    def forward(self, x):
        return torch.tanh(x / 3) * 3


class MemBlock(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.conv = nn.Sequential(conv(2 * n, n), nn.ReLU(), conv(n, n), nn.ReLU(), conv(n, n))

    def forward(self, x, past):
        return F.relu(self.conv(torch.cat([x, past], 1)) + x)


class TGrow(nn.Module):
    def __init__(self, n, s):
        super().__init__()
        self.s = s
        self.conv = nn.Conv2d(n, n * s, 1, bias=False)

    def forward(self, x):
        x = self.conv(x)
        return x.reshape(x.shape[0] * self.s, -1, *x.shape[2:])


class TPool(nn.Module):
    def __init__(self, n, s):
        super().__init__()
        self.s = s
        self.conv = nn.Conv2d(n * s, n, 1, bias=False)

    def forward(self, x):
        return self.conv(x.reshape(-1, self.s * x.shape[1], *x.shape[2:]))


def run(layers, x):
    """x [B,T,C,H,W]; all time steps at once, memory blocks look one step back (zeros before the first)."""
    B = x.shape[0]
    x = x.flatten(0, 1)
    for layer in layers:
        if isinstance(layer, MemBlock):
            y = x.reshape(B, -1, *x.shape[1:])
            past = torch.cat([torch.zeros_like(y[:, :1]), y[:, :-1]], 1).flatten(0, 1)
            x = layer(x, past)
        else:
            x = layer(x)
    return x.reshape(B, -1, *x.shape[1:])


class TAEHV(nn.Module):
    def __init__(self, widths=(64, 48, 24, 16), encoder_width=64):
        super().__init__()
        n, w = widths, encoder_width
        self.encoder = nn.Sequential(
            conv(3, w), nn.ReLU(),
            TPool(w, 2), conv(w, w, stride=2, bias=False), MemBlock(w), MemBlock(w), MemBlock(w),
            TPool(w, 2), conv(w, w, stride=2, bias=False), MemBlock(w), MemBlock(w), MemBlock(w),
            TPool(w, 1), conv(w, w, stride=2, bias=False), MemBlock(w), MemBlock(w), MemBlock(w),
            conv(w, CHANNELS))
        up = lambda: nn.Upsample(scale_factor=2)
        self.decoder = nn.Sequential(
            Clamp(), conv(CHANNELS, n[0]), nn.ReLU(),
            MemBlock(n[0]), MemBlock(n[0]), MemBlock(n[0]), up(), TGrow(n[0], 1), conv(n[0], n[1], bias=False),
            MemBlock(n[1]), MemBlock(n[1]), MemBlock(n[1]), up(), TGrow(n[1], 2), conv(n[1], n[2], bias=False),
            MemBlock(n[2]), MemBlock(n[2]), MemBlock(n[2]), up(), TGrow(n[2], 2), conv(n[2], n[3], bias=False),
            nn.ReLU(), conv(n[3], 3))

    def encode(self, video):
        """[B,T,3,H,W] -> [B,ceil(T/4),16,H/8,W/8]; the end is padded by repeating the last frame."""
        pad = -video.shape[1] % 4
        if pad:
            video = torch.cat([video, video[:, -1:].expand(-1, pad, -1, -1, -1)], 1)
        return run(self.encoder, video)

    def decode(self, latents):
        """[B,n,16,h,w] -> [B,4n-3,3,8h,8w] (not clamped)."""
        return run(self.decoder, latents)[:, 3:]

    def fold(self, mean, std):
        """Make the encoder give (z - mean) / std and the decoder expect it (exact but for the clamp)."""
        with torch.no_grad():
            e, d = self.encoder[-1], self.decoder[1]
            e.weight.div_(std[:, None, None, None])
            e.bias.sub_(mean).div_(std)
            d.bias.add_((d.weight.sum((2, 3)) * mean).sum(1))  # exact inside the frame
            d.weight.mul_(std[None, :, None, None])


def decoder_flops(widths, h=20, w=32):
    n, px = widths, h * w
    a = px * (18 * 16 * n[0] + 216 * n[0] ** 2)
    b = 4 * px * (2 * n[0] ** 2 + 18 * n[0] * n[1] + 216 * n[1] ** 2)
    c = 16 * px * (4 * n[1] ** 2 + 2 * (18 * n[1] * n[2] + 216 * n[2] ** 2))
    d = 64 * px * (2 * 4 * n[2] ** 2 + 4 * (18 * n[2] * n[3] + 54 * n[3]))
    return a + b + c + d


if __name__ == "__main__":
    for wd in [(96, 48, 16, 16), (96, 64, 16, 16), (64, 48, 24, 16), (64, 32, 24, 16), (96, 48, 24, 16)]:
        print(wd, decoder_flops(wd) * 3 / 1e9, "GFLOP for 3 latents")
    m = TAEHV()
    print(sum(p.numel() for p in m.encoder.parameters()), sum(p.numel() for p in m.decoder.parameters()))
    x = torch.rand(2, 9, 3, 32, 48)
    z = m.encode(x)
    print(z.shape, m.decode(z).shape, [k for k in m.state_dict()][:6])
