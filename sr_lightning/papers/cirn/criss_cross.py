"""Criss-cross attention: every pixel looks at its row and its column (CCNet, Huang et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["CHUNK", "criss_cross_attention"]

CHUNK = 2**22
"""Similarities held at once: 16 MiB in float32, which CPU caches like better than more."""


def criss_cross_attention(query: Tensor, key: Tensor, value: Tensor, chunk: int = CHUNK) -> Tensor:
    """Mean of the values in a pixel's row and column, weighted by softmax of query times key.

    A pixel has H + W - 1 keys: its row, and its column without itself, so that it counts once.

    The similarities of whole images are N * H * W * (H + W) numbers: 1.1 GB for 512 x 512 in
    float32. Where that is more than `chunk`, queries are answered some rows at a time: the same
    result, for a memory of `chunk` unless gradients are wanted.

    Args:
        query: (N, D, H, W).
        key: (N, D, H, W).
        value: (N, C, H, W).
        chunk: Similarities held at once; at least those of one row of queries are.

    Returns:
        (N, C, H, W), channels last in memory.
    """
    queries, keys, values = (t.permute(0, 2, 3, 1) for t in (query, key, value))
    n, height, width, _ = queries.shape
    # Contiguous, lest every group of rows gathers them again.
    column_keys = keys.permute(0, 2, 3, 1).flatten(0, 1).contiguous()
    column_values = values.transpose(1, 2).contiguous()
    not_itself = torch.diag(keys.new_full((height,), -torch.inf))

    def answer(rows: slice) -> Tensor:
        asking = queries[:, rows]
        in_row = asking @ keys[:, rows].transpose(2, 3)
        in_column = torch.baddbmm(
            not_itself[rows], asking.transpose(1, 2).flatten(0, 1), column_keys
        ).view(n, width, -1, height)
        weights = torch.cat([in_row, in_column.transpose(1, 2)], dim=3).softmax(dim=3)
        from_row = weights[..., :width] @ values[:, rows]
        from_column = weights[..., width:].transpose(1, 2) @ column_values
        return from_row + from_column.transpose(1, 2)

    # A program exported for images of any size cannot have a loop whose length depends on it.
    if torch.compiler.is_exporting() or n * height * width * (height + width) <= chunk:
        answers = answer(slice(None))
    else:
        step = max(1, chunk // (n * width * (height + width)))
        groups = [answer(slice(top, top + step)) for top in range(0, height, step)]
        answers = torch.cat(groups, dim=1)
    return answers.permute(0, 3, 1, 2)
