"""Evaluation protocols: everything between two images and a number that papers leave unsaid.

"My PSNR does not match the paper" is the field's commonest complaint, and the cause is nearly
always one of these fields. A protocol's name stands beside every number that this suite prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sr_lightning.colour import RGB_TO_Y
from sr_lightning.metrics.quality import METRICS

__all__ = ["PROTOCOLS", "Protocol", "get_protocol"]


Rounding = Literal["round", "truncate", "none"]


@dataclass(frozen=True)
class Protocol:
    """How a super-resolved image is compared with its HR image.

    Attributes:
        name: Short name, printed beside every number.
        summary: One line for people.
        channel: Compare luminance ("y", MATLAB's BT.601) or all of "rgb". Scripts that differ by
            mistake compare "y_full", luminance of the full range 0 to 255 as OpenCV and kornia
            make it, or "y_bgr", luminance of blue taken for red.
        quantise: How float SR pixels become 8 bits before anything else: "round" to the nearest,
            "truncate", or "none".
        quantise_y: How luminance becomes whole levels: "round" to the nearest, "truncate", or
            "none".
        lr: What the network is given: "rgb_uint8" is the usual LR image file; "rgb_float" is the
            same, not rounded; "ycbcr_float" is made from the rounded YCbCr of the HR image and
            never rounded, as the SRCNN and VDSR scripts do.
        grey: What the luminance of a one-channel HR file (Set14's ``bridge``) is: "direct" takes
            its grey level as it is, "matrix" sends it through RGB -> Y as three equal channels,
            which compresses the range and adds 1.32 dB (0.094 dB to Set14's mean).
        grey_input: What a luminance network is given of a one-channel HR file: "rgb" sends its LR
            image through RGB -> Y like any other; "y" gives its grey levels as luminance, as the
            scripts of the luminance networks do.
        crop_border: Pixels cropped at each border beyond the scale; None crops nothing at all.
        ssim_border: Where SSIM is averaged: "valid", wherever the window fits, as the original
            script of Wang et al. does; or "replicate", everywhere, borders repeated, as MATLAB's
            own ``ssim`` does.
    """

    name: str
    summary: str
    channel: Literal["y", "rgb", "y_full", "y_bgr"] = "y"
    quantise: Literal["round", "truncate", "none"] = "round"
    quantise_y: Literal["none", "round", "truncate"] = "none"
    lr: Literal["rgb_uint8", "rgb_float", "ycbcr_float"] = "rgb_uint8"
    grey: Literal["direct", "matrix"] = "direct"
    grey_input: Literal["rgb", "y"] = "rgb"
    crop_border: int | None = 0
    ssim_border: Literal["valid", "replicate"] = "valid"

    def measure(
        self,
        sr: Tensor,
        hr: Tensor,
        scale: float,
        grey: bool = False,
        metrics: Sequence[str] = ("psnr", "ssim"),
    ) -> dict[str, float]:
        """Numbers of one super-resolved image: the only place where any is computed.

        Args:
            sr: (1, 3, H, W) or (3, H, W) float RGB, about [0, 1], as it comes from the network.
            hr: The same shape, RGB in [0, 1] holding 8-bit levels.
            scale: Scale of the task; it sets the border that is cropped.
            grey: Whether the HR file holds one channel.
            metrics: Names in :data:`~sr_lightning.metrics.quality.METRICS`.

        Returns:
            A number for each metric: PSNR of identical images is infinite, and SSIM of an image
            that its window does not fit into is NaN.

        Raises:
            ValueError: the shapes differ, there are several images, or cropping leaves nothing.
        """
        a, b = self.prepare(sr, hr, scale, grey)
        return {name: float(METRICS[name].function(a, b, self)) for name in metrics}

    def prepare(
        self, sr: Tensor, hr: Tensor, scale: float, grey: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The two images that metrics see: (1, C, h, w) float64 in [0, 255], C = 1 or 3.

        For the arguments see :meth:`measure`, which is all that measuring needs.
        """
        if sr.shape != hr.shape:
            raise ValueError(f"SR is {tuple(sr.shape)} but HR is {tuple(hr.shape)}.")
        sr, hr = (image if image.ndim == 4 else image[None] for image in (sr, hr))
        if sr.shape[0] != 1:
            raise ValueError(f"Images are measured one by one, not {sr.shape[0]} at once.")
        # MPS has no float64; measuring is cheap, so it moves to where it is exact.
        where = torch.device("cpu") if sr.device.type == "mps" else sr.device
        sr, hr = (self.crop(image, scale).to(where) for image in (sr, hr))
        return self._in_strips(sr, self.quantise, grey), self._in_strips(hr, "round", grey)

    def crop(self, image: Tensor, scale: float) -> Tensor:
        """An image (..., H, W) without the border that is not compared at a scale.

        Raises:
            ValueError: nothing is left.
        """
        edge = self.border(scale)
        if min(image.shape[-2:]) <= 2 * edge:
            raise ValueError(f"Nothing is left of {tuple(image.shape[-2:])} after cropping {edge}.")
        return image[..., edge:-edge, edge:-edge] if edge else image

    def border(self, scale: float) -> int:
        """Pixels cropped at each side at a scale."""
        return 0 if self.crop_border is None else max(0, round(scale) + self.crop_border)

    def _in_strips(self, image: Tensor, how: Rounding, grey: bool) -> Tensor:
        # Strips of rows stay in the cache, which makes a large image four times faster.
        parts = torch.split(image, 16, dim=-2)
        strips = (_quantised(part.to(torch.float64, copy=True).mul_(255), how) for part in parts)
        return torch.cat([self._channels(strip, grey) for strip in strips], dim=-2)

    def _channels(self, levels: Tensor, grey: bool) -> Tensor:
        if self.channel == "rgb":
            return levels
        if grey and self.grey == "direct":
            y = levels.mean(dim=1, keepdim=True)
        else:
            y = _luminance(levels.flip(1) if self.channel == "y_bgr" else levels)
            if self.channel == "y_full":
                y = (y - 16) * (255 / 219)
        return _quantised(y, self.quantise_y)


def _luminance(levels: Tensor) -> Tensor:
    """Y in [16, 235] of RGB levels in [0, 255], (N, 3, H, W) to (N, 1, H, W).

    The numbers of :func:`~sr_lightning.colour.rgb_to_y` without its copies of all three channels,
    which would take longer than SSIM's share of a strip.
    """
    red, green, blue = (levels[:, channel, None] for channel in range(3))
    r, g, b = (weight / 255 for weight in RGB_TO_Y)
    return (red * r).add_(green, alpha=g).add_(blue, alpha=b).add_(16)


def _quantised(levels: Tensor, how: Rounding) -> Tensor:
    """Whole levels, in place."""
    if how == "round":
        # MATLAB rounds halves up; the networks' float32 cannot tell, files can.
        return levels.add_(0.5).floor_().clamp_(0, 255)
    if how == "truncate":
        # Whole levels that came out a rounding error too low (/255 *255 does that) stay whole.
        return levels.add_(1e-6).floor_().clamp_(0, 255)
    return levels


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="edsr2017",
            summary="RGB rounded to 8 bits, Y not rounded, border = scale, LR = uint8 file "
            "(EDSR, RCAN and most papers since)",
        ),
        Protocol(
            name="vdsr2016",
            summary="Y rounded to 8 bits, border = scale, LR made from Y and not rounded "
            "(SRCNN's and VDSR's MATLAB scripts)",
            quantise="none",
            quantise_y="round",
            lr="ycbcr_float",
            grey_input="y",
        ),
        Protocol(
            name="lesrcnn2020",
            summary="RGB truncated to 8 bits, Y rounded, grey files through RGB -> Y, "
            "border = scale (LESRCNN's script)",
            quantise="truncate",
            quantise_y="round",
            grey="matrix",
        ),
        Protocol(
            name="lapsrn2017",
            summary="RGB rounded to 8 bits, Y not rounded, LR not rounded, MATLAB's own ssim, grey "
            "files through RGB -> Y, border = scale (LapSRN's script)",
            lr="rgb_float",
            grey="matrix",
            ssim_border="replicate",
        ),
        Protocol(
            name="mslapsrn2018",
            summary="lapsrn2017 with grey files as they are (MS-LapSRN's script)",
            lr="rgb_float",
            grey_input="y",
            ssim_border="replicate",
        ),
        Protocol(
            name="dncnn2017",
            summary="Y neither rounded nor clamped, LR = uint8 file, border = scale (DnCNN's "
            "script)",
            quantise="none",
            grey_input="y",
        ),
        Protocol(
            name="imdn2019",
            summary="edsr2017 with grey files through RGB -> Y (IMDN's script)",
            grey="matrix",
        ),
        Protocol(
            name="rgb",
            summary="all of RGB rounded to 8 bits, border = scale (BasicSR's default)",
            channel="rgb",
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        KeyError: no protocol has that name.
    """
    try:
        return PROTOCOLS[name]
    except KeyError:
        known = ", ".join(PROTOCOLS)
        raise KeyError(f"There is no protocol '{name}'; known are {known}.") from None
