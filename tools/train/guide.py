"""A classifier of noisy latents, trained beside stage A and used in stage B: it tells the student which words of the prompt its
clip does not show yet (classifier guidance; Dhariwal and Nichol, arXiv 2105.05233). The judge of the evaluation is another network,
trained apart from this one, on pixels."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from judge import HEADS, UNSAID


class Guide(nn.Module):
    def __init__(self):
        super().__init__()
        c = lambda i, o, s: nn.Sequential(nn.Conv2d(i, o, 3, s, 1), nn.GroupNorm(8, o), nn.SiLU())
        self.frame = nn.Sequential(c(35, 96, 1), c(96, 128, 2), c(128, 128, 1), c(128, 160, 2))
        self.flat = nn.Linear(160 * 5 * 8, 256)
        self.time = nn.ModuleList([nn.Conv1d(256, 256, 3, padding=1), nn.Conv1d(256, 256, 3, padding=2, dilation=2)])
        self.heads = nn.ModuleDict({h: nn.Linear(512, len(v)) for h, v in HEADS.items()})

    def forward(self, lat, level):
        """lat [B,F,16,20,32] at noise `level` [B] -> logits per head. Each frame is seen beside the one before."""
        B, T, _, h, w = lat.shape
        y, x = (torch.linspace(-1, 1, n, device=lat.device) for n in (h, w))
        place = torch.stack([y[:, None].expand(h, w), x[None].expand(h, w)]).expand(B, T - 1, -1, -1, -1).to(lat.dtype)
        s = level.to(lat.dtype).reshape(B, 1, 1, 1, 1).expand(-1, T - 1, 1, h, w)
        z = torch.cat([lat[:, 1:], lat[:, :-1], place, s], 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        z = F.silu(self.flat(self.frame(z).flatten(1))).reshape(B, T - 1, -1).transpose(1, 2)
        for t in self.time:
            z = z + F.silu(t(z))
        z = torch.cat([z.mean(2), z.amax(2)], 1)
        return {k: m(z) for k, m in self.heads.items()}


def noisy(x, level):
    s = level.reshape(-1, 1, 1, 1, 1)
    return (1 - s) * x + s * torch.randn_like(x)


def loss(logits, labels):
    """Cross entropies per head [heads], 0 for a head without a label in the batch; labels [B,heads]."""
    out = []
    for i, h in enumerate(HEADS):
        l = F.cross_entropy(logits[h].float(), labels[:, i], ignore_index=UNSAID, reduction="sum")
        out.append(l / (labels[:, i] != UNSAID).sum().clamp(min=1))
    return torch.stack(out)


def right(logits, labels):
    """Share of right answers per head [heads]."""
    ok = torch.stack([logits[h].argmax(1) for h in HEADS], 1) == labels
    there = labels != UNSAID
    return (ok & there).sum(0) / there.sum(0).clamp(min=1)
