"""placeholder until the fast loop comes"""

import torch


def activate(x, nonlinearity):
    if nonlinearity == "softplus":
        return torch.nn.functional.softplus(x)
    if nonlinearity == "soc":
        return torch.where(x < 0, torch.tanh(x), 4 * torch.tanh(x / 4))
    return torch.tanh(x)


def invert(r, nonlinearity):
    if nonlinearity == "softplus":
        r = r.clamp(min=1e-3)
        return r + torch.log(-torch.expm1(-r))
    if nonlinearity == "soc":
        return torch.where(r < 0, torch.atanh(r.clamp(min=-0.99)), 4 * torch.atanh((r / 4).clamp(max=0.99)))
    return torch.atanh(r.clamp(-0.99, 0.99))


def scan(drive, weights, initial, keep, *, nonlinearity="tanh"):
    x, r, out = initial, activate(initial, nonlinearity), []
    for u in drive:
        x = keep * x + u + (r @ weights.T)
        r = activate(x, nonlinearity)
        out.append(r)
    return torch.stack(out)
