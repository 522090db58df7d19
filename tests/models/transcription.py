"""The paper's Algorithm 1, transcribed line by line: slow, dense, nothing kept but what it names.

Only the networks and the reference warp are shared with the package. Arrays are indexed by frame
as the paper's subscripts are; F[k] is a dict of layer n to F_k^(n). Where the paper is silent the
definitions are the project's own and are written out here once more: U and M of a layer at stride
s lie at exactly 16 / s pixels a pixel of the features, embeddings are updated as further layers,
and line 20 warps F̄_k and its embedding.
"""

# The names are the paper's.
# ruff: noqa: E741, SIM300

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from hpvod_ops.reference.warp import warp


@dataclass
class Output:
    keys: list = field(default_factory=list)
    masks: list = field(default_factory=list)  # U of every frame, also where it is all 0 or all 1
    features: list = field(default_factory=list)  # what N_det is given
    boxes: list = field(default_factory=list)  # in pixels of the original frame
    scores: list = field(default_factory=list)
    labels: list = field(default_factory=list)


@torch.no_grad()
def algorithm1(
    model, frames, *, schedule, do_aggr, do_spatial, tau=0.0, gamma=0.2, window=0, consistency=None
):
    """`schedule` is l for a key frame every l frames, or None for the temporally-adaptive one."""
    parameter = next(model.parameters())
    I = {i: preprocess(frame, model.config, parameter) for i, frame in enumerate(frames)}  # line 1
    F_hat, F_bar, M, Q, S, U = {}, {}, {}, {}, {}, {}
    out = Output()

    def N_flow(k, i):
        output = model.flow(I[i], I[k])
        quality = output.quality if consistency is None else consistency(I[k], I[i], output)
        return output.flow, quality, output.scale

    def N_det(F):
        detections = model.detection(F, tuple(I[0].shape[2:])).of_image(0)
        height, width = frames[0].shape[:2]
        ratio = [width / I[0].shape[3], height / I[0].shape[2]] * 2
        out.features.append(F)
        out.boxes.append(detections.boxes * torch.tensor(ratio))
        out.scores.append(detections.scores)
        out.labels.append(detections.labels)

    k = 0  # line 2
    F_hat[0] = all_layers(model, I[0], lambda name, feature, stride: feature)  # line 3
    U[0] = torch.ones(F_hat[0]["feat_conv"].shape[2:], dtype=torch.bool)
    out.keys.append(True)
    if not window:
        N_det(F_hat[0]["feat_conv"])  # line 4
    if do_aggr:  # line 5
        F_bar[0] = F_hat[0]["feat_conv"]  # line 6
    # line 7
    for i in range(1, len(frames)):  # line 8
        M[i, k], Q[k, i], S[k, i] = N_flow(k, i)  # line 9
        key = is_key(Q[k, i], i, schedule, tau, gamma)  # line 10
        if key:  # line 11
            Q[k, i] = torch.full_like(Q[k, i], -math.inf)  # line 12
        elif do_spatial:  # line 13
            Q[k, i] = Q[k, i]  # line 14
        else:  # line 15
            Q[k, i] = torch.full_like(Q[k, i], +math.inf)  # line 16
        # line 17
        F_hat[i] = partial_update(model, I[i], F_hat[k], M[i, k], Q[k, i], S[k, i], tau)  # line 18
        U[i] = (Q[k, i] <= tau)[0, 0]
        if do_aggr and not window:  # line 19
            F_bar[i] = G(model, F_bar[k], F_hat[i], M[i, k])  # line 20
            N_det(F_bar[i])  # line 21
        elif not window:  # line 22
            N_det(F_hat[i]["feat_conv"])  # line 23
        # line 24
        out.keys.append(key)
        if key:  # line 25
            k = i  # line 26
        # line 27
    # line 28
    if window:  # FGFA: Eq. 2 replaces line 20 and looks ahead, so it follows once all is known
        for i in range(len(frames)):
            F_bar[i] = dense_aggregation(model, I, F_hat, i, window)
            N_det(F_bar[i])
    out.masks = [U[i] for i in range(len(frames))]
    return out  # line 29


def is_key(Q, i, schedule, tau, gamma):
    if schedule is not None:
        return i % schedule == 0
    values = Q.flatten().tolist()
    return sum(1 for q in values if q <= tau) / len(values) > gamma  # Eq. 9


def partial_update(model, I_i, F_k, M, Q, S, tau):
    """Eq. 6, layer by layer."""
    U = (Q <= tau).to(I_i.dtype)

    def update(name, feature, stride):
        U_n = nearest(U, stride, feature.shape)
        F_k_to_i = warp(F_k[name], bilinear(M, stride, feature.shape))  # Eq. 1
        if name == "feat_conv" and S is not None:
            F_k_to_i = S * F_k_to_i
        return U_n * feature + (1 - U_n) * F_k_to_i

    return all_layers(model, I_i, update)


def all_layers(model, I_i, update):
    """Every layer n of N_feat and of the embedding network: update(N^(n)(layer n - 1))."""
    layers = {}

    def layer(name, feature, stride):
        layers[name] = update(name, feature, stride).clone()
        return layers[name]

    model.embedding(model.features(I_i, layer), layer)
    return layers


def nearest(U, stride, shape):
    """U[y // r, x // r], r = 16 / stride."""
    r = 16 // stride
    rows = torch.tensor([min(y // r, U.shape[2] - 1) for y in range(shape[2])])
    columns = torch.tensor([min(x // r, U.shape[3] - 1) for x in range(shape[3])])
    return U[:, :, rows, :][:, :, :, columns]


def bilinear(M, stride, shape):
    """r * M(y / r, x / r), its border repeated outside, r = 16 / stride."""
    r = 16 // stride
    rows = interpolation([y / r for y in range(shape[2])], M.shape[2]).to(M.dtype)
    columns = interpolation([x / r for x in range(shape[3])], M.shape[3]).to(M.dtype)
    return r * (rows @ M @ columns.T)


def interpolation(positions, size):
    """The matrix that takes `size` values to those between them, the outermost repeated outside."""
    matrix = torch.zeros(len(positions), size, dtype=torch.float64)
    for row, position in enumerate(positions):
        low = math.floor(position)
        for neighbour in (low, low + 1):
            matrix[row, min(max(neighbour, 0), size - 1)] += 1 - abs(position - neighbour)
    return matrix


def G(model, F_bar_k, F_hat_i, M):
    """Eq. 7; Eq. 4 is its case of a key frame i."""
    F_bar_k_to_i = warp(F_bar_k, M)
    e_k_to_i = warp(model.embedding(F_bar_k), M)
    F_i, e_i = F_hat_i["feat_conv"], F_hat_i["embed"]
    W_k, W_i = torch.exp(cosine(e_k_to_i, e_i)), torch.exp(cosine(e_i, e_i))  # Eq. 3
    return W_k / (W_k + W_i) * F_bar_k_to_i + W_i / (W_k + W_i) * F_i


def dense_aggregation(model, I, F_hat, i, r):
    """Eq. 2 over i - r to i + r, the first and last frame repeated beyond the video's ends."""
    total, weights = 0, 0
    for offset in range(-r, r + 1):
        k = min(max(i + offset, 0), len(I) - 1)
        F_k_to_i, e_k_to_i = F_hat[k]["feat_conv"], F_hat[k]["embed"]
        if k != i:
            M = model.flow(I[i], I[k]).flow
            F_k_to_i, e_k_to_i = warp(F_k_to_i, M), warp(e_k_to_i, M)
        W = torch.exp(cosine(e_k_to_i, F_hat[i]["embed"]))  # Eq. 3
        total, weights = total + W * F_k_to_i, weights + W
    return total / weights


def cosine(a, b):
    dot = (a * b).sum(1, keepdim=True)
    norms = a.pow(2).sum(1, keepdim=True).sqrt() * b.pow(2).sum(1, keepdim=True).sqrt()
    return torch.where(norms > 0, dot / norms, torch.zeros_like(dot))


def preprocess(frame, config, parameter):
    """Bilinear resize, a pixel's centre at its half; mean subtraction."""
    frame = torch.as_tensor(frame).to(torch.float64).permute(2, 0, 1)
    height, width = frame.shape[1:]
    scale = min(config.short_side / min(height, width), config.long_side / max(height, width))
    rows, columns = round(height * scale), round(width * scale)
    y = interpolation([(row + 0.5) * height / rows - 0.5 for row in range(rows)], height)
    x = interpolation([(column + 0.5) * width / columns - 0.5 for column in range(columns)], width)
    mean = torch.tensor(config.pixel_mean, dtype=torch.float64).view(3, 1, 1)
    return (y @ frame @ x.T - mean)[None].to(parameter.dtype)
