"""PSNR and SSIM of whole images, and every metric by its name.

torchmetrics' own PSNR pools the error of all images and its SSIM pads the borders: both differ
from MATLAB's numbers, which papers report as the mean over images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_lightning.metrics.further import ms_ssim, of_network, vif
from sr_lightning.metrics.similarity import Similarity

if TYPE_CHECKING:
    from sr_lightning.metrics.protocol import Protocol

__all__ = ["METRICS", "SSIM_WINDOW", "Metric", "numbers_text", "psnr", "ssim", "stored"]

SSIM_WINDOW = 11
"""Side of SSIM's window, in pixels."""


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images in [0, 255]: (N, C, H, W) twice to (N,).

    Identical images give infinity.
    """
    # In strips of rows, whose differences stay in the cache.
    strips = zip(torch.split(a, 64, dim=2), torch.split(b, 64, dim=2), strict=True)
    errors = [
        torch.linalg.vector_norm(x - y, dim=(1, 2, 3), dtype=_exact(a)).square() for x, y in strips
    ]
    return 10 * torch.log10(255.0**2 * a[0].numel() / torch.stack(errors).sum(dim=0))


@torch.no_grad()
def ssim(
    a: Tensor,
    b: Tensor,
    window: int = SSIM_WINDOW,
    border: Literal["valid", "replicate"] = "valid",
) -> Tensor:
    """Structural similarity (Wang et al. 2004) of images in [0, 255]: (N, C, H, W) twice to (N,).

    Gaussian window of sigma 1.5, population statistics, K = 0.01 and 0.03: MATLAB's numbers
    (``tests/test_oracle_matlab.py`` compares 30 images). Images with fewer pixels than the window
    on a side have no SSIM: they give NaN. There is no gradient; training has
    :func:`~sr_lightning.training.losses.ssim_loss`.

    Args:
        a: Images.
        b: Images to compare them with.
        window: Side of the window.
        border: See :class:`~sr_lightning.metrics.protocol.Protocol`.
    """
    if min(a.shape[-2:]) < window:
        return a.new_full(a.shape[:1], math.nan, dtype=_exact(a))
    if border == "replicate":
        a, b = (F.pad(image, [window // 2] * 4, mode="replicate") for image in (a, b))
    similarity = Similarity(a.shape[-2], a.shape[-1], window, _blur_dtype(a, b), a.device)
    # A global float32 precision of "medium" may not round products to bfloat16; autocast leaves
    # those alone that have an output to write to.
    with torch.backends.mkldnn.flags(enabled=False, allow_tf32=None):
        planes = zip(a.flatten(0, 1), b.flatten(0, 1), strict=True)
        means = [similarity.mean(x, y) for x, y in planes]
    return torch.stack(means).view(a.shape[:2]).mean(dim=1)


def _exact(like: Tensor) -> torch.dtype:
    return torch.float32 if like.device.type == "mps" else torch.float64  # MPS has no float64


def _blur_dtype(a: Tensor, b: Tensor) -> torch.dtype:
    """What keeps six digits of SSIM: float32, unless images are less alike than about 22 dB.

    The difference of two flat areas then is so large that float32 shows in its variance. On a GPU
    float32 products may be TF32, and float64 is fast enough.
    """
    some = (..., slice(None, None, 7), slice(None, None, 7))
    apart = (a[some] - b[some]).square().mean(dim=(1, 2, 3)).max() > 400
    return _exact(a) if a.is_cuda or apart else torch.float32


@dataclass(frozen=True)
class Metric:
    """A number that says how good a super-resolved image is.

    Attributes:
        name: Name in configs, files and logs.
        label: Label in tables.
        unit: Unit in tables; empty for none.
        digits: Digits after the point, as papers print it.
        stored_digits: Stored digits after the point, as records keep it.
        function: Takes the SR image, the HR image, (1, C, H, W) float64 in [0, 255] each as the
            protocol prepared them, and the protocol; gives one number.
        higher_is_better: False for distances.
    """

    name: str
    label: str
    unit: str
    digits: int
    stored_digits: int
    function: Callable[[Tensor, Tensor, Protocol], Tensor]
    higher_is_better: bool = True

    @property
    def heading(self) -> str:
        """Label and unit: ``PSNR (dB)``."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def text(self, value: float | None) -> str:
        """A value as tables print it; what is undefined is a dash."""
        if value is None or math.isnan(value):
            return "-"
        return "inf" if math.isinf(value) else f"{value:.{self.digits}f}"

    def stored(self, value: float) -> float | None:
        """A value as JSON can hold it: infinite and undefined ones are null."""
        return round(value, self.stored_digits) if math.isfinite(value) else None


def numbers_text(numbers: Mapping[str, float | None], unit: bool = True) -> str:
    """Numbers in the order of :data:`METRICS`: ``28.43 dB / 0.8113``.

    Args:
        numbers: Numbers by metric; other keys are left out.
        unit: Whether units are written.
    """
    return " / ".join(
        metric.text(numbers[name]) + (f" {metric.unit}" if unit and metric.unit else "")
        for name, metric in METRICS.items()
        if name in numbers
    )


def stored(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """Numbers by metric as JSON can hold them; see :meth:`Metric.stored`."""
    return {name: METRICS[name].stored(value) for name, value in numbers.items()}


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("psnr", "PSNR", "dB", 2, 4, lambda a, b, protocol: psnr(a, b)),
        Metric("ssim", "SSIM", "", 4, 5, lambda a, b, p: ssim(a, b, border=p.ssim_border)),
        Metric("ms_ssim", "MS-SSIM", "", 4, 5, lambda a, b, p: ms_ssim(a, b)),
        Metric("vif", "VIF", "", 4, 5, lambda a, b, p: vif(a, b)),
        Metric("lpips", "LPIPS", "", 4, 5, lambda a, b, p: of_network("lpips", a, b), False),
        Metric("dists", "DISTS", "", 4, 5, lambda a, b, p: of_network("dists", a, b), False),
        Metric("niqe", "NIQE", "", 3, 4, lambda a, b, p: of_network("niqe", a, b), False),
    )
}
"""Every metric by name; a further one is an entry here."""
