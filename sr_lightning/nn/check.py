"""Whether a network keeps the contract that everything relies on, told before it is trained."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from sr_lightning.cubic import upscaled_size
from sr_lightning.errors import UserError
from sr_lightning.nn.network import SRNetwork

__all__ = ["check_network"]

# Images of any size are measured and upscaled; most networks that take multiples alone take 16.
_SIZES = ((16, 16), (17, 19))


def check_network(network: SRNetwork) -> None:
    """Run a network on two tiny images, and see that a weight file could describe it.

    Args:
        network: Anywhere but on the meta device; left as it is.

    Raises:
        UserError: its `scales` are missing or no numbers, its constructor takes more than plain
            data, or it fails, or gives another size or numbers that are not finite.
    """
    kind = type(network)
    name = f"{kind.__module__}.{kind.__qualname__}"
    scales = getattr(network, "scales", None)
    if not isinstance(scales, tuple | list) or not scales or not all(map(_is_scale, scales)):
        raise UserError(
            f"{name} has to say its scales: set self.scales = (4,), or another tuple of numbers "
            "from 1 on, in its constructor."
        )
    for argument, value in network.config.items():
        if not _is_plain(value):
            raise UserError(
                f"{name} is constructed with {argument} = {type(value).__name__} object, which a "
                "weight file cannot describe; take numbers, strings and lists of them instead."
            )
    try:
        inspect.signature(kind).bind(**network.config)
    except TypeError as error:
        raise UserError(
            f"{name} cannot be built again from the arguments of its constructor ({error}); take "
            "each by its name."
        ) from error
    training = network.training
    network.eval()
    try:
        for scale in scales:
            for size in _SIZES:
                _check_answer(network, name, scale, size)
    finally:
        network.train(training)


def _check_answer(network: SRNetwork, name: str, scale: float, size: tuple[int, int]) -> None:
    like = next(network.parameters(), torch.empty(0))
    ramp = torch.linspace(0, 1, 3 * size[0] * size[1], device=like.device)
    image = f"an image of {size[1]} x {size[0]} pixels at x{scale:g}"
    try:
        with torch.no_grad(), torch.random.fork_rng(range(torch.cuda.device_count())):
            answer = network.upscale(ramp.reshape(1, 3, *size), scale)
    except Exception as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"{name} fails on {image}: {said[0].rstrip('.')}. Networks take images of any size; "
            "pad and crop in 'forward' where yours needs multiples."
        ) from error
    expected = (1, 3, *upscaled_size(size, scale))
    if not isinstance(answer, torch.Tensor) or tuple(answer.shape) != expected:
        given = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise UserError(f"{name} gives {given} for {image}, where {expected} is due.")
    if not answer.isfinite().all():
        raise UserError(f"{name} gives NaN or infinite numbers for {image} before any training.")


def _is_scale(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 1


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(inner) for key, inner in value.items())
    return value is None or isinstance(value, bool | int | float | str)
