"""What authors released: which of their tensors is which of ours, and whose files they are.

A converter works for every scale and size that its network has; what a file tells of them is read
from it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sr_lightning.baselines.carn import CARN
from sr_lightning.baselines.dncnn import DnCNN
from sr_lightning.baselines.idn import IDN
from sr_lightning.baselines.imdn import IMDN
from sr_lightning.baselines.lapsrn import LapSRN, MSLapSRN
from sr_lightning.baselines.tscn import TSCN
from sr_lightning.baselines.vdsr import VDSR
from sr_lightning.errors import UserError
from sr_lightning.nn.network import SRNetwork
from sr_lightning.papers.lesrcnn import LESRCNN, from_release
from sr_lightning.weights.formats import ExternalWeights

__all__ = ["RELEASES", "Release"]

Names = dict[str, str]
"""Name of a tensor in the file by its name in our network."""


@dataclass(frozen=True)
class Release:
    """Released weights of one architecture.

    Attributes:
        title: The network's name, for people.
        network: Its class here.
        origin: Public repository and folder of the files.
        licence: Licence of the repository, which says nothing of the training images.
        arguments: Constructor arguments that a file tells.
        names: Where each tensor of a network is in a file.
        ignored: Pattern of the file's tensors that our network has as constants.
    """

    title: str
    network: type[SRNetwork]
    origin: str
    licence: str
    arguments: Callable[[ExternalWeights], dict[str, Any]]
    names: Callable[[SRNetwork, ExternalWeights], Names]
    ignored: str = r"(?!)"

    def translate(self, network: SRNetwork, weights: ExternalWeights) -> dict[str, Tensor]:
        """A complete state dict for a network.

        Args:
            network: Built for the file.
            weights: Weights of the file.

        Raises:
            UserError: a tensor is missing, surplus or of a wrong shape.
        """
        names = self.names(network, weights)
        state = {
            ours: weights.tensor(names.get(ours, ours), tuple(value.shape))
            for ours, value in network.state_dict().items()
        }
        surplus = set(weights.tensors) - set(names.values())
        for name in sorted(surplus):
            if not re.fullmatch(self.ignored, name):
                raise UserError(f"{weights.path} has a tensor that {self.title} has not: '{name}'.")
        return state


# ---- VDSR and DnCNN -----------------------------------------------------------------------------


def _vdsr_arguments(weights: ExternalWeights) -> dict[str, Any]:
    layers = sum(name.startswith("model.weight.") for name in weights.tensors)
    return {"layers": layers, "clip": True}


def _vdsr_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    return {
        f"layers.{index}.{kind}": f"model.{kind}.{index}"
        for index in range(network.config["layers"])
        for kind in ("weight", "bias")
    }


def _dncnn_arguments(weights: ExternalWeights) -> dict[str, Any]:
    return {"layers": len(_dncnn_layers(weights)), "batch_norm": False}


def _dncnn_layers(weights: ExternalWeights) -> list[int]:
    found = (re.fullmatch(r"layers\.(\d+)\.weights\.0", name) for name in weights.tensors)
    return sorted(int(match[1]) for match in found if match)


def _dncnn_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    # Convolution, ReLU, convolution, ...: merged batch normalisation leaves no layer behind.
    ours = [name for name in network.state_dict() if name.endswith(".weight")]
    return {
        f"{name.removesuffix('weight')}{kind}": f"layers.{place}.weights.{index}"
        for name, place in zip(ours, _dncnn_layers(weights), strict=False)
        for index, kind in enumerate(("weight", "bias"))
    }


# ---- LapSRN and MS-LapSRN -----------------------------------------------------------------------


def _lapsrn_arguments(weights: ExternalWeights) -> dict[str, Any]:
    found = [re.fullmatch(r"level(\d)_conv(\d+)_f", name) for name in weights.tensors]
    numbers = [(int(match[1]), int(match[2])) for match in found if match]
    if not numbers:
        return {}
    return {"scale": 2 ** max(n[0] for n in numbers), "depth": max(n[1] for n in numbers)}


def _lapsrn_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    names = _filters_and_biases({"first": "input_conv"})
    count = {2: 1, 4: 2, 8: 3}[network.scale]
    for level in range(count):
        # The release counts levels from the finest.
        theirs = f"level{count - level}"
        layers = {
            f"embedding.{index}": f"{theirs}_conv{index + 1}"
            for index in range(network.config["depth"])
        }
        layers |= {"upsample": f"{theirs}_upconv", "residual": f"{theirs}_residual_conv"}
        ours = {f"levels.{level}.{name}": value for name, value in layers.items()}
        names |= _filters_and_biases(ours)
        names[f"levels.{level}.image.weight"] = f"{theirs}_img_up_f"
    return names


def _mslapsrn_arguments(weights: ExternalWeights) -> dict[str, Any]:
    rounds = [re.fullmatch(r"x\dSR_level\d_R(\d+)_relu1", name) for name in weights.layers]
    depth = sum(re.fullmatch(r"conv\d+_f", name) is not None for name in weights.tensors)
    found = [int(match[1]) for match in rounds if match]
    return {"depth": depth, **({"recursions": max(found)} if found else {})}


def _mslapsrn_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    layers = {f"block.{i}": f"conv{i + 1}" for i in range(network.config["depth"])}
    layers |= {"first": "input_conv", "upsample": "upconv", "residual": "residual_conv"}
    return {**_filters_and_biases(layers), "image.weight": "img_up_f"}


def _filters_and_biases(layers: Mapping[str, str]) -> Names:
    return {
        f"{ours}.{kind}": f"{theirs}_{letter}"
        for ours, theirs in layers.items()
        for kind, letter in (("weight", "f"), ("bias", "b"))
    }


# ---- IDN and TSCN -------------------------------------------------------------------------------


def _caffe_scale(weights: ExternalWeights) -> dict[str, Any]:
    stride = weights.strides.get("upsample")
    return {} if stride is None else {"scale": stride}


def _idn_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    layers = {"first": "conv1", "second": "conv2", "upsample": "upsample"}
    for block in range(network.config["blocks"]):
        for index in range(3):
            layers[f"blocks.{block}.above.{index}"] = f"conv{block + 3}_{index + 1}"
            layers[f"blocks.{block}.below.{index}"] = f"conv{block + 3}_{index + 4}"
        layers[f"blocks.{block}.compression"] = f"down{block + 1}"
    return _weights_and_biases(layers)


def _tscn_arguments(weights: ExternalWeights) -> dict[str, Any]:
    refined = any(name.startswith("conv_r") for name in weights.tensors)
    return {**_caffe_scale(weights), "stage": "both" if refined else "first"}


def _tscn_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    layers = {"first": "conv1", "second": "conv2", "join": "conv7"}
    layers |= {"upsample": "upsample", "coarse": "conv8"}
    for module in range(network.config["modules"]):
        for index in range(6):
            ours = f"fusions.{module}.triples.{index // 3}.{index % 3}"
            layers[ours] = f"conv{module + 3}_{index + 1}"
        layers[f"fusions.{module}.fusion"] = f"fusion{module + 1}"
    if network.config["stage"] != "first":
        units = network.config["units"]
        layers |= {"refinement.0": "conv_r0", f"refinement.{units + 2}": f"conv_r{2 * units + 1}"}
        for unit in range(units):
            layers[f"refinement.{unit + 2}.grouped"] = f"conv_r{2 * unit + 1}"
            layers[f"refinement.{unit + 2}.plain"] = f"conv_r{2 * unit + 2}"
    return _weights_and_biases(layers)


# ---- IMDN, CARN and LESRCNN ---------------------------------------------------------------------


def _imdn_arguments(weights: ExternalWeights) -> dict[str, Any]:
    last = weights.tensors.get("upsampler.0.weight")
    return {} if last is None else {"scale": round((last.shape[0] / 3) ** 0.5)}


def _imdn_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    layers = {"first": "fea_conv", "fusion": "c.0", "last": "LR_conv", "upsample": "upsampler.0"}
    for block in range(network.config["blocks"]):
        theirs = f"IMDB{block + 1}"
        inner = {f"steps.{index}": f"c{index + 1}" for index in range(3)}
        inner |= {"last": "c4", "fusion": "c5"}
        inner |= {"attention.squeeze": "cca.conv_du.0", "attention.excite": "cca.conv_du.2"}
        layers |= {f"blocks.{block}.{k}": f"{theirs}.{v}" for k, v in inner.items()}
    return _weights_and_biases(layers)


def _heads(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The scales of CARN's upsamplers, which LESRCNN has taken over."""
    found = (re.fullmatch(r"upsample\.up(\d)\.body\.0\.weight", name) for name in tensors)
    several = tuple(sorted(int(match[1]) for match in found if match))
    if several:
        return {"scale": several}
    factors = [
        round((value.shape[0] / 64) ** 0.5)
        for name, value in tensors.items()
        if re.fullmatch(r"upsample\.up\.body\.\d+\.weight", name)
    ]
    return {"scale": math.prod(factors)} if factors else {}


def _carn_arguments(weights: ExternalWeights) -> dict[str, Any]:
    unit = weights.tensors.get("b1.b1.body.0.weight")
    groups = 1 if unit is None else unit.shape[0] // max(1, unit.shape[1])
    recursive = "b1.b2.body.0.weight" not in weights.tensors
    return {**_heads(weights.tensors), "groups": groups, "recursive": recursive}


def _carn_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    config = network.config
    layers = {"first": "entry", "last": "exit"}
    for block in range(config["blocks"]):
        theirs = f"b{block + 1}"
        layers[f"body.fusions.{block}"] = f"c{block + 1}.body.0"
        for unit in range(config["units"]):
            inner = f"body.parts.{block}"
            layers[f"{inner}.fusions.{unit}"] = f"{theirs}.c{unit + 1}.body.0"
            if unit == 0 or not config["recursive"]:
                for index in range(3 if config["groups"] > 1 else 2):
                    ours = f"{inner}.parts.{unit}.layers.{index}"
                    layers[ours] = f"{theirs}.b{unit + 1}.body.{2 * index}"
    for scale in network.scales:
        head = f"up{int(scale)}" if len(network.scales) > 1 else "up"
        for index in range(2 if scale == 4 else 1):
            ours = f"upsamplers.{int(scale)}.{2 * index}"
            layers[ours] = f"upsample.{head}.body.{3 * index}"
    return _weights_and_biases(layers)


def _lesrcnn_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    theirs = {id(value): name for name, value in weights.tensors.items()}
    return {ours: theirs[id(value)] for ours, value in from_release(weights.tensors).items()}


def _weights_and_biases(layers: Mapping[str, str]) -> Names:
    return {
        f"{ours}.{kind}": f"{theirs}.{kind}"
        for ours, theirs in layers.items()
        for kind in ("weight", "bias")
    }


_MEAN_SHIFT = r"(sub|add)_mean\.shifter\.(weight|bias)"

RELEASES = {
    "vdsr": Release(
        "VDSR", VDSR, "github.com/huangzehao/caffe-vdsr Test", "MIT", _vdsr_arguments, _vdsr_names
    ),
    "dncnn": Release(
        "DnCNN",
        DnCNN,
        "github.com/cszn/DnCNN model",
        "not stated",
        _dncnn_arguments,
        _dncnn_names,
    ),
    "lapsrn": Release(
        "LapSRN",
        LapSRN,
        "github.com/phoenix104104/LapSRN pretrained_models",
        "not stated",
        _lapsrn_arguments,
        _lapsrn_names,
    ),
    "mslapsrn": Release(
        "MS-LapSRN",
        MSLapSRN,
        "github.com/phoenix104104/LapSRN pretrained_models",
        "not stated",
        _mslapsrn_arguments,
        _mslapsrn_names,
    ),
    "idn": Release(
        "IDN",
        IDN,
        "github.com/Zheng222/IDN-Caffe test/caffemodel",
        "not stated",
        _caffe_scale,
        _idn_names,
    ),
    "tscn": Release(
        "TSCN",
        TSCN,
        "github.com/Zheng222/TSCN test/caffemodel",
        "not stated",
        _tscn_arguments,
        _tscn_names,
    ),
    "imdn": Release(
        "IMDN",
        IMDN,
        "github.com/Zheng222/IMDN checkpoints",
        "not stated",
        _imdn_arguments,
        _imdn_names,
    ),
    "carn": Release(
        "CARN",
        CARN,
        "github.com/nmhkahn/CARN-pytorch checkpoint",
        "MIT",
        _carn_arguments,
        _carn_names,
        _MEAN_SHIFT,
    ),
    "lesrcnn": Release(
        "LESRCNN",
        LESRCNN,
        "github.com/hellloxiaotian/LESRCNN",
        "not stated",
        lambda weights: _heads(weights.tensors),
        _lesrcnn_names,
        _MEAN_SHIFT,
    ),
}
"""By the name that ``sr-lightning weights convert --arch`` takes."""
