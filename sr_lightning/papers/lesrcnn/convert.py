"""The authors' LESRCNN checkpoints (github.com/hellloxiaotian/LESRCNN) as weights of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from sr_lightning.errors import UserError

__all__ = ["from_release"]


def from_release(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a released LESRCNN, single-scale or blind.

    The release's mean shifts, which are frozen 1x1 convolutions, are left out: the mean is a
    constant of :class:`~sr_lightning.papers.lesrcnn.LESRCNN`.

    Args:
        state: State dict of the release, as ``torch.load(..., weights_only=True)`` gives it.

    Returns:
        State dict for ``LESRCNN(scale).load_state_dict``.

    Raises:
        UserError: a tensor is not one of the release.
    """
    scale = _scale_of_single(state)
    renamed = {}
    for name, value in state.items():
        if not name.startswith(("sub_mean.", "add_mean.")):
            renamed[_renamed(name, scale)] = value
    return renamed


def _renamed(name: str, scale: int) -> str:
    if found := re.fullmatch(r"upsample\.up(\d?)\.body\.(\d+)\.(weight|bias)", name):
        head, place, kind = found.groups()
        # In the release each convolution is followed by a pixel shuffle, which counts as well.
        return f"upsamplers.{head or scale}.{int(place) // 2}.{kind}"
    if found := re.fullmatch(r"conv17_([1-4])\.0\.weight", name):
        return f"refinement.{int(found[1]) - 1}.weight"
    if found := re.fullmatch(r"conv(\d+)\.0\.weight", name):
        layer = int(found[1])
        if layer == 1:
            return "first.weight"
        if layer == 18:
            return "last.weight"
        return f"pairs.{layer // 2 - 1}.{'odd' if layer % 2 else 'even'}.weight"
    raise UserError(f"'{name}' is not a tensor of the LESRCNN release; give one of its files.")


def _scale_of_single(state: Mapping[str, Tensor]) -> int:
    """Scale of the only upsampler, from its convolutions' sizes; 1 where there is none."""
    scale = 1
    for name, value in state.items():
        if re.fullmatch(r"upsample\.up\.body\.\d+\.weight", name):
            scale *= round((value.shape[0] / value.shape[1]) ** 0.5)
    return scale
