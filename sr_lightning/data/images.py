"""Reading and writing image files: the only place where pixels enter or leave the suite.

Every reader gives pixels in the order that the eye expects (EXIF orientation applied), and every
problem with a file becomes one sentence that names the file.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import struct
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError
from torch import Tensor

from sr_lightning.errors import UserError
from sr_lightning.files import written_whole

__all__ = [
    "IMAGE_SUFFIXES",
    "LOSSY_SUFFIXES",
    "Photo",
    "Picture",
    "check_range",
    "find_images",
    "from_unit_range",
    "natural_key",
    "read_photo",
    "read_picture",
    "read_rgb",
    "to_pixels",
    "to_tensor",
    "to_unit_range",
    "unique_names",
    "with_hidden_colours",
    "write_image",
]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
LOSSY_SUFFIXES = frozenset({".jpg", ".jpeg"})

_LARGEST = {torch.uint8: 255, torch.uint16: 65535}

# No photograph is packed so well; drawings of one colour are, but not at sizes that take memory.
_MOST_UNPACKED = 200
_HARMLESS_BYTES = 64 << 20
_ROWS_AT_A_TIME = 256

_VIPS_COLOURS = frozenset({"b-w", "grey16", "srgb", "rgb", "rgb16", "scrgb"})
_VIPS_METADATA = ("icc-profile-data", "exif-data", "xmp-data")
# Whether an image of each EXIF orientation is mirrored first, then its quarter turns to the left.
_ORIENTATIONS = {
    2: (True, 0),
    3: (False, 2),
    4: (True, 2),
    5: (True, 1),
    6: (False, 3),
    7: (True, 3),
    8: (False, 1),
}
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=[\"']|>))[2-8]")
# Title, maker, model, software, date, artist and rights: the others describe the file's pixels.
_TIFF_TAGS = frozenset({270, 271, 272, 305, 306, 315, 33432})


@dataclass(frozen=True)
class Photo:
    """One decoded image file with all that should outlive its upscaling.

    Attributes:
        pixels: (H, W, C) of uint8 or uint16, upright; C = 1 is grey, 2 grey with alpha, 3 RGB,
            4 RGB with alpha.
        metadata: ICC profile, EXIF and XMP by libvips' names for them.
        dpi: Pixels per inch across and down, None where the file does not say.
        frames: Number of frames or pages in the file, of which this is the first.
        notes: What reading changed.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    dpi: tuple[float, float] | None = None
    frames: int = 1
    notes: tuple[str, ...] = ()

    @property
    def grey(self) -> bool:
        """Whether there is one colour channel."""
        return bool(self.pixels.shape[2] < 3)

    @property
    def transparent(self) -> bool:
        """Whether the last channel is alpha."""
        return self.pixels.shape[2] in {2, 4}

    @property
    def picture(self) -> Picture:
        """The same in 8 bits."""
        eight = self.pixels.astype(np.uint8)
        if self.pixels.dtype == np.uint16:
            eight = ((self.pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
        rgb = eight[..., :1].repeat(3, axis=2) if self.grey else eight[..., :3]
        alpha = eight[..., -1] if self.transparent else None
        return Picture(rgb=np.ascontiguousarray(rgb), alpha=alpha, grey=self.grey)


@dataclass(frozen=True)
class Picture:
    """One decoded image file.

    Attributes:
        rgb: uint8 array of shape (H, W, 3); grey files have three equal channels.
        alpha: uint8 array of shape (H, W), or None where the file has no transparency.
        grey: Whether the file itself holds one colour channel.
    """

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None
    grey: bool


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts ``img2`` before ``img10``."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part.lower())
        for part in re.split(r"(\d+)", name)
    ]


def unique_names(files: Sequence[Path]) -> list[str]:
    """What each file's result is called: its stem, or its whole name where a stem is not alone.

    Args:
        files: Those of one folder must differ in their names.
    """
    counts = Counter((path.parent, path.stem) for path in files)
    return [path.stem if counts[path.parent, path.stem] == 1 else path.name for path in files]


def find_images(folder: str | Path) -> list[Path]:
    """List the image files of a folder in natural order (not recursive, hidden files left out).

    Raises:
        UserError: the folder does not exist, holds no image, or something else by an image's name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"The folder {folder} does not exist; check the path.")
    files = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not path.name.startswith(".")
        and not path.is_dir()
    ]
    for path in files:
        if not path.is_file():
            raise UserError(f"{path} is a broken link, a pipe or a device; remove it.")
    if not files:
        kinds = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        raise UserError(f"The folder {folder} holds no image (looked for {kinds}).")
    return sorted(files, key=lambda path: natural_key(path.name))


def _open(path: Path, most: int | None) -> Image.Image | None:
    """A file as Pillow reads it, or None where libvips reads more of its levels."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError(f"{path} is a pipe or a device; name an image file.")
        with warnings.catch_warnings():
            # A photograph over 89 megapixels is legitimate here; Pillow's hard limit (twice that)
            # still refuses a decompression bomb.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            try:
                image = Image.open(path)
            except UnidentifiedImageError:
                if _head(path)[:4] in {b"II*\0", b"MM\0*"}:
                    return None
                _use_plugin(path)
                image = Image.open(path)
            _check_size(path, image.size, most)
            if image.format == "EPS":
                # Pillow would have Ghostscript run the program that such a file is.
                raise UserError(f"{path} is PostScript, which is a program; save it as PNG.")
            _refuse_bomb(path, image.width, image.height, len(image.getbands()) * _bytes_of(image))
            # Pillow cuts colours of 16 bits down to 8.
            deep = not image.mode.startswith("I") and any(";16" in str(t.args) for t in image.tile)
            if deep and image.format in {"PNG", "TIFF"}:
                return None
            image.load()
    except FileNotFoundError:
        raise UserError(f"The file {path} does not exist; check the path.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; name an image file in it.") from None
    except Image.DecompressionBombError:
        raise UserError(f"The image {path} is too large to be read; cut it into pieces.") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if path.stat().st_size == 0:
            raise UserError(f"The file {path} is empty; fetch it again or remove it.") from None
        reason = "truncated" if "truncated" in str(error).lower() else "damaged or not an image"
        raise UserError(f"The file {path} is {reason}; fetch it again or remove it.") from error
    return image


def _check_size(path: Path, size: tuple[int, int], most: int | None) -> None:
    if most is not None and size[0] * size[1] > most:
        raise UserError(
            f"The image {path} has {size[0]} x {size[1]} pixels, more than {most / 1e6:.3g} "
            "megapixels; choose a smaller one."
        )


def _bytes_of(image: Image.Image) -> int:
    """Bytes of a level in memory."""
    return 4 if image.mode in {"I", "F"} else 2 if ";16" in image.mode else 1


def _refuse_bomb(path: Path, width: int, height: int, depth: int) -> None:
    """Refuse a small file that would be unpacked to far more than photographs are.

    Args:
        path: Path of the file.
        width: Width in pixels.
        height: Height in pixels.
        depth: Bytes of a pixel in memory.

    Raises:
        UserError: the file is one.
    """
    unpacked, packed = width * height * depth, path.stat().st_size
    if unpacked > max(_HARMLESS_BYTES, _MOST_UNPACKED * packed):
        raise UserError(
            f"{path} has {packed / 1e3:,.0f} kB, but would be unpacked to {unpacked / 1e6:,.0f} MB "
            f"({width} x {height}), which no photograph is; save a large drawing in pieces."
        )


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(12)


def _use_plugin(path: Path) -> None:
    """Let Pillow read HEIC and JPEG XL, where their plugins are installed."""
    head = _head(path)
    if head[4:8] == b"ftyp" and head[8:11] in {b"hei", b"hev", b"mif", b"msf"}:
        kind, module, package = "HEIC", "pillow_heif", "pillow-heif"
    elif head[:2] == b"\xff\x0a" or head[4:8] == b"JXL ":
        kind, module, package = "JPEG XL", "pillow_jxl", "pillow-jxl-plugin"
    else:
        return
    try:
        plugin = importlib.import_module(module)
    except ImportError:
        raise UserError(
            f"{path} is a {kind} file; 'pip install {package}' lets it be read, or save it as PNG."
        ) from None
    if kind == "HEIC":
        plugin.register_heif_opener()


def read_photo(path: str | Path, most: int | None = None) -> Photo:
    """Read one image file with all of its levels and what it says of itself.

    Reads PNG, JPEG, BMP, TIFF, WebP and what else Pillow reads; grey, RGB and both with alpha,
    palette, CMYK, Lab, 1-bit, 8-bit, 16-bit and float; HEIC and JPEG XL with Pillow's plugins. The
    EXIF orientation is applied and the first frame of an animation is taken.

    Args:
        path: The file.
        most: Pixels beyond which an image is refused before it is decoded; default: what Pillow
            takes for a decompression bomb, and for colours of 16 bits none.

    Raises:
        UserError: the file is missing, empty, truncated, no image, too large, or its levels do not
            say which of them is white.
    """
    path = Path(path)
    image = _open(path, most)
    if image is None:
        return _read_deep(path, most)
    notes: list[str] = []
    pixels, own_colours = _levels_of(image, path, notes)
    metadata = {}
    with contextlib.suppress(SyntaxError, ValueError, KeyError, TypeError, struct.error):
        metadata["exif-data"] = _description(image).tobytes()
    if own_colours and image.info.get("icc_profile"):
        metadata["icc-profile-data"] = image.info["icc_profile"]
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp", b"")
    metadata["xmp-data"] = xmp.encode() if isinstance(xmp, str) else xmp
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    dpi = image.info.get("dpi")
    return Photo(
        pixels=_upright(pixels, orientation),
        metadata={name: data for name, data in _reset(metadata).items() if data},
        dpi=None if not dpi else (float(dpi[0]), float(dpi[1])),
        frames=getattr(image, "n_frames", 1),
        notes=tuple(notes),
    )


def _levels_of(
    image: Image.Image, path: Path, notes: list[str]
) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], bool]:
    """Levels (H, W, C) of what Pillow read, and whether its ICC profile still describes them."""
    own_colours = image.mode not in {"CMYK", "LAB", "HSV", "YCbCr"}
    if image.mode.startswith("I"):
        wide = np.asarray(image)
        low, high = int(wide.min()), int(wide.max())
        if low < 0 or high > _LARGEST[torch.uint16]:
            raise UserError(
                f"{path} holds levels from {low} to {high}, which do not say which is white; save "
                "it with 8 or 16 bits."
            )
        return wide.astype(np.uint16)[..., None], True
    if image.mode == "F":
        return _from_float(np.asarray(image)[..., None], path), True
    if not own_colours:
        notes.append(f"{image.mode} became RGB")
    if image.mode == "CMYK" and image.info.get("icc_profile"):
        with contextlib.suppress(ImageCms.PyCMSError, OSError):
            profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
            srgb = ImageCms.createProfile("sRGB")
            image = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB") or image
    grey = image.mode in {"1", "L", "LA", "La"}
    transparent = image.mode.endswith(("A", "a")) or "transparency" in image.info
    pixels = np.array(image.convert(("L" if grey else "RGB") + ("A" if transparent else "")))
    return pixels.reshape(*pixels.shape[:2], -1), own_colours


def _read_deep(path: Path, most: int | None) -> Photo:
    """What Pillow does not read, or not whole: colours of 16 bits and of floats."""
    import pyvips

    try:
        with path.open("rb") as file:
            source = pyvips.Source.new_from_descriptor(file.fileno())
            image = pyvips.Image.new_from_source(source, "", fail_on="truncated")
            _check_size(path, (image.width, image.height), most)
            # Its size is known before its levels are read.
            depth = image.bands * {"uchar": 1, "ushort": 2, "float": 4}.get(image.format, 8)
            if image.width * image.height > 2 * (Image.MAX_IMAGE_PIXELS or 0):
                raise UserError(f"The image {path} is too large to be read; cut it into pieces.")
            _refuse_bomb(path, image.width, image.height, depth)
            image = image.copy_memory()
    except pyvips.Error as error:
        reason = " ".join(str(error.detail).split())
        raise UserError(
            f"The file {path} is damaged or of a rare kind ({reason}); fetch it again, or save it "
            "with 8 or 16 bits per colour."
        ) from error
    if image.bands > 4 or image.interpretation not in _VIPS_COLOURS:
        raise UserError(
            f"{path} holds {image.bands} channels ({image.interpretation}); save it as grey or RGB."
        )
    pixels = image.numpy().reshape(image.height, image.width, image.bands)
    if pixels.dtype not in (np.uint8, np.uint16):
        pixels = _from_float(pixels, path)
    fields = set(image.get_fields())
    metadata = {name: bytes(image.get(name)) for name in _VIPS_METADATA if name in fields}
    given = image.xres != 1.0
    return Photo(
        pixels=_upright(pixels, image.get("orientation") if "orientation" in fields else 1),
        metadata=_reset(metadata),
        dpi=(image.xres * 25.4, image.yres * 25.4) if given else None,
    )


def _from_float(real: NDArray[Any], path: Path) -> NDArray[np.uint16]:
    """Levels of 16 bits from floats whose white is 1, 255 or 65535, by what most of them are."""
    finite = np.where(np.isfinite(real), real, real.dtype.type(0))
    low, high = (float(value) for value in np.percentile(finite, (1, 99)))
    white = next((white for white in (1.0, 255.0, 65535.0) if high <= 2 * white), 0.0)
    if not white or low < -0.1 * white:
        raise UserError(
            f"{path} holds values from {low:g} to {high:g}, which do not say what is black and "
            "white; save it with levels from 0 to 1."
        )
    levels = np.empty(real.shape, np.uint16)
    for top in range(0, len(finite), _ROWS_AT_A_TIME):
        rows = finite[top : top + _ROWS_AT_A_TIME].astype(np.float64)
        levels[top : top + len(rows)] = (rows * (65535 / white) + 0.5).clip(0, 65535)
    return levels


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """An image (H, W, C) as its EXIF orientation says that it is seen."""
    mirrored, turns = _ORIENTATIONS.get(orientation, (False, 0))
    turned = np.rot90(pixels[:, ::-1] if mirrored else pixels, turns)
    return np.ascontiguousarray(turned)


def _description(image: Image.Image) -> Image.Exif:
    """The EXIF of a file, without what describes how its own pixels are stored."""
    exif = image.getexif()
    if image.format != "TIFF":
        return exif
    kept = Image.Exif()
    for tag in _TIFF_TAGS & set(exif):
        kept[tag] = exif[tag]
    for folder in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        kept.get_ifd(folder).update(exif.get_ifd(folder))
    return kept


def _reset(metadata: dict[str, bytes]) -> dict[str, bytes]:
    """Metadata of an image that was turned upright."""
    if metadata.get("exif-data"):
        exif = Image.Exif()
        exif.load(metadata["exif-data"])
        exif.pop(ExifTags.Base.Orientation, None)
        metadata["exif-data"] = exif.tobytes() if len(exif) else b""
    if metadata.get("xmp-data"):
        metadata["xmp-data"] = _XMP_ORIENTATION.sub(rb"\g<1>1", metadata["xmp-data"])
    return metadata


def read_picture(path: str | Path) -> Picture:
    """Read one image file as 8 bits; 16 bits and floats are rounded.

    Raises:
        UserError: see :func:`read_photo`.
    """
    return read_photo(path).picture


def read_rgb(path: str | Path) -> NDArray[np.uint8]:
    """Read one image file as uint8 RGB of shape (H, W, 3); transparency is dropped.

    Raises:
        UserError: see :func:`read_picture`.
    """
    return read_picture(path).rgb


def check_range(image: Tensor, beyond: float = 0.01) -> None:
    """Refuse floats that are not levels in [0, 1].

    Args:
        image: float, any shape, not empty.
        beyond: How far outside of [0, 1] a value may lie.

    Raises:
        UserError: a value lies farther outside, or is not a number.
    """
    low, high = (float(value) for value in image.detach().aminmax())
    # NaN is neither.
    if not (low >= -beyond and high <= 1 + beyond):
        raise UserError(
            f"The image holds values from {low:g} to {high:g}, but floats are taken in [0, 1]; "
            "divide levels of 0 to 255 by 255, clip what overshoots, and replace NaN."
        )


def to_unit_range(image: Tensor, beyond: float = 0.01) -> Tensor:
    """Levels of an image in [0, 1], whatever type holds them.

    Args:
        image: uint8, uint16 (white is 65535) or float in [0, 1]; any shape.
        beyond: How far outside of [0, 1] a float may lie.

    Returns:
        float32 of integers; floats as they are.

    Raises:
        UserError: the image is empty, of another type, or outside of the range.
    """
    if image.numel() == 0:
        raise UserError(f"The image is empty: its shape is {tuple(image.shape)}.")
    if image.dtype in _LARGEST:
        return image.float().div_(_LARGEST[image.dtype])
    if not image.is_floating_point():
        kind = str(image.dtype).removeprefix("torch.")
        raise UserError(
            f"The image is of {kind}, which does not say which level is white; "
            "give uint8, uint16 (white is 65535) or floats in [0, 1]."
        )
    check_range(image, beyond)
    return image


def from_unit_range(image: Tensor, dtype: torch.dtype) -> Tensor:
    """The inverse of :func:`to_unit_range`, clamped; halves are rounded up, as MATLAB does.

    Args:
        image: float in about [0, 1]; any shape.
        dtype: uint8, uint16 or float.

    Raises:
        UserError: the image holds NaN.
    """
    image = image.detach()
    if bool(image.isnan().any()):
        raise UserError(
            "The result holds NaN: the network's weights are broken, or numbers overflowed in "
            "16 bits; use other weights, or compute in float32."
        )
    if dtype not in _LARGEST:
        return image.clamp(0, 1).to(dtype)
    largest = _LARGEST[dtype]
    # MPS has no float64.
    exact = image.float() if image.device.type == "mps" else image.double()
    return exact.mul(largest).add_(0.5).floor_().clamp_(0, largest).to(dtype)


def to_tensor(pixels: NDArray[Any]) -> Tensor:
    """Turn an array (H, W, C) into a float32 tensor (C, H, W) in [0, 1].

    Args:
        pixels: uint8, uint16 (white is 65535) or float in [0, 1].

    Raises:
        UserError: it is no such array; :func:`sr_lightning.upscale` takes other kinds of images.
    """
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 3:
        what = f"shape {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise UserError(f"Give an array (H, W, C), not {what}; sr_lightning.upscale takes others.")
    return to_unit_range(torch.from_numpy(pixels.transpose(2, 0, 1).copy())).float()


def to_pixels(image: Tensor) -> NDArray[np.uint8]:
    """Round a float (C, H, W) tensor in [0, 1] to uint8 (H, W, C), as every protocol does.

    Raises:
        UserError: it is not one image, or holds NaN.
    """
    if image.ndim != 3:
        raise UserError(f"Give one image (C, H, W), not {tuple(image.shape)}; of a batch image[0].")
    return from_unit_range(image, torch.uint8).permute(1, 2, 0).cpu().numpy()


def with_hidden_colours(pixels: NDArray[Any]) -> NDArray[Any]:
    """Give fully transparent pixels the colour of the nearest one that is seen.

    A network sees around a pixel: what is hidden, often black, would make a fringe.

    Args:
        pixels: (H, W, C); without alpha (C = 1 or 3) they come back as they are.
    """
    if pixels.shape[2] in {1, 3}:
        return pixels
    hidden = pixels[..., -1] == 0
    if not hidden.any() or hidden.all():
        return pixels
    # Late: few images have alpha.
    from scipy import ndimage

    nearest = ndimage.distance_transform_edt(hidden, return_distances=False, return_indices=True)
    filled = pixels.copy()
    filled[..., :-1] = pixels[nearest[0], nearest[1], :-1]
    return filled


def write_image(path: str | Path, rgb: NDArray[np.uint8], *, quality: int = 95) -> None:
    """Write uint8 RGB pixels to a file whose suffix names the format.

    Args:
        path: Where to; missing folders are made.
        rgb: (H, W, 3).
        quality: Quality of lossy formats.

    Raises:
        UserError: the suffix is unknown or the place cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise UserError(f"Cannot write {path}: use one of {', '.join(sorted(IMAGE_SUFFIXES))}.")
    options: dict[str, Any] = {"quality": quality} if suffix in LOSSY_SUFFIXES else {}
    if suffix == ".webp":
        options = {"lossless": True}
    with written_whole(path) as part:
        Image.fromarray(rgb).save(part, **options)
