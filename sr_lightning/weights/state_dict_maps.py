"""What authors released: which of their tensors is which of ours, and whose files they are.

A converter works for every scale and size that its network has; what a file tells of them is read
from it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sr_lightning.baselines.awsrn import AWSRN
from sr_lightning.baselines.carn import CARN
from sr_lightning.baselines.dbpn import DBPN
from sr_lightning.baselines.dncnn import DnCNN
from sr_lightning.baselines.edsr import EDSR
from sr_lightning.baselines.fsrcnn import FSRCNN
from sr_lightning.baselines.idn import IDN
from sr_lightning.baselines.imdn import IMDN
from sr_lightning.baselines.lapsrn import LapSRN, MSLapSRN
from sr_lightning.baselines.mdsr import MDSR
from sr_lightning.baselines.memnet import MemNet
from sr_lightning.baselines.rcan import RCAN
from sr_lightning.baselines.rdn import RDN
from sr_lightning.baselines.safmn import SAFMN
from sr_lightning.baselines.span import SPAN
from sr_lightning.baselines.srcnn import SRCNN
from sr_lightning.baselines.swinir import SwinIR
from sr_lightning.baselines.tscn import TSCN
from sr_lightning.baselines.vdsr import VDSR
from sr_lightning.errors import UserError
from sr_lightning.files import read_yaml
from sr_lightning.nn.network import SRNetwork
from sr_lightning.papers.lesrcnn import LESRCNN, from_release
from sr_lightning.weights.formats import ExternalWeights
from sr_lightning.weights.formats.external import unwrapped

__all__ = ["RELEASES", "Release", "recognised"]

Names = dict[str, str]
"""Name of a tensor in the file by its name in our network."""

Arguments = Callable[[ExternalWeights], dict[str, Any]]


def _nothing(weights: ExternalWeights) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Release:
    """Released weights of one architecture; its facts are data, in ``architectures.yaml``.

    Attributes:
        title: The network's name, for people.
        origin: Public repository and folder of the files.
        licence: Licence of the repository, which says nothing of the training images.
        signature: Tensors that a file of this architecture has, and of no other one.
        network: Its class here.
        arguments: Constructor arguments that a file tells.
        names: Where each tensor of a network is in a file.
        variants: Tensors of variants that our network is not.
        ignored: Pattern of the file's tensors that our network has as constants or computes.
        choices: What a file does not tell, with the usual values: constructor arguments, and as
            "levels" the value of full white in the network's images.
        ends: Our first and last layers, which take over what images of other levels need.
        prepare: Brings the file's tensors into PyTorch's layout, where they differ by more than
            names.
    """

    title: str
    origin: str
    licence: str
    signature: list[str]
    network: type[SRNetwork]
    arguments: Arguments
    names: Callable[[SRNetwork, ExternalWeights], Names]
    variants: list[str] = field(default_factory=list)
    ignored: str = r"(?!)"
    choices: Arguments = _nothing
    ends: tuple[str, str] = ("head", "tail")
    prepare: Callable[[ExternalWeights], ExternalWeights] = lambda weights: weights

    def fits(self, weights: ExternalWeights) -> bool:
        """Whether a file is of this architecture, by the names of its tensors."""
        names = weights.tensors
        return names.keys() >= {*self.signature} and names.keys().isdisjoint(self.variants)

    def build(self, weights: ExternalWeights, given: Mapping[str, Any]) -> SRNetwork:
        """A network with the weights of a file.

        Args:
            weights: Weights of the file.
            given: Constructor arguments, and choices other than the usual ones.

        Raises:
            UserError: the file contradicts an argument or does not fit the network.
        """
        told = self.arguments(weights)
        for key, value in given.items():
            if key in told and told[key] != value:
                raise UserError(f"{weights.path} is for {key} {told[key]}, not {value}.")
        arguments = {**told, **self.choices(weights), **given}
        if arguments.get("scale", 0) is None:
            raise UserError(f"{weights.path} does not tell its scale; convert it with --scale.")
        levels = arguments.pop("levels", 1)
        network = self.network(**arguments)
        state = self.translate(network, self.prepare(weights))
        if levels != 1:
            # Their features stay as they are: only what meets an image is scaled.
            first, last = self.ends
            state[f"{first}.weight"] *= levels
            state[f"{last}.weight"] /= levels
            state[f"{last}.bias"] /= levels
        network.load_state_dict(state)
        return network.eval()

    def translate(self, network: SRNetwork, weights: ExternalWeights) -> dict[str, Tensor]:
        """A complete state dict for a network.

        Args:
            network: Built for the file.
            weights: Weights of the file.

        Raises:
            UserError: a tensor is missing, surplus or of a wrong shape.
        """
        names = self.names(network, weights)
        # Clones, for levels are scaled in place.
        state = {
            ours: weights.tensor(names.get(ours, ours), tuple(value.shape)).clone()
            for ours, value in network.state_dict().items()
            if not ours.endswith("num_batches_tracked")
        }
        surplus = set(weights.tensors) - set(names.values())
        for name in sorted(surplus):
            if not re.fullmatch(self.ignored, name):
                raise UserError(f"{weights.path} has a tensor that {self.title} has not: '{name}'.")
        counters = {k: v for k, v in network.state_dict().items() if k not in state}
        return state | counters


def recognised(
    weights: ExternalWeights, arch: str | None = None
) -> tuple[str, ExternalWeights] | None:
    """Which release a file is of, and its weights without the prefixes of wrappers.

    Args:
        weights: Weights of the file.
        arch: One of `RELEASES`, where it is known.
    """
    for tensors in unwrapped(weights.tensors):
        bare = replace(weights, tensors=tensors)
        for name in RELEASES if arch is None else [arch]:
            if RELEASES[name].fits(bare):
                return name, bare
    return None


# ---- VDSR and DnCNN -----------------------------------------------------------------------------


def _vdsr_arguments(weights: ExternalWeights) -> dict[str, Any]:
    return {"layers": _count(weights, r"model\.weight\.(\d+)")}


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


# ---- EDSR, MDSR, RCAN and RDN: PyTorch, images of 255 levels ------------------------------------

_DIV2K = (0.4488, 0.4371, 0.4040)


def _levels(weights: ExternalWeights) -> dict[str, Any]:
    """Full white of their images, from the layer that takes the mean colour away."""
    bias = weights.tensors.get("sub_mean.bias")
    if bias is None:
        return {"levels": 255}
    levels = -round(float(bias[0]) / _DIV2K[0])
    if not torch.allclose(bias.float(), -levels * torch.tensor(_DIV2K), rtol=1e-3):
        raise UserError(
            f"{weights.path} takes away another mean colour than DIV2K's, which the network here "
            "cannot."
        )
    return {"levels": levels}


def _count(weights: ExternalWeights, pattern: str) -> int:
    """One more than the largest number that a pattern finds in the names."""
    found = (re.fullmatch(pattern, name) for name in weights.tensors)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def _scale_of(weights: ExternalWeights, prefix: str) -> int:
    """The scale of EDSR's upsampler, from the widths of its steps."""
    scale = 1
    for step in (0, 2, 4):
        weight = weights.tensors.get(f"{prefix}.{step}.weight")
        if weight is not None and weight.shape[0] > weight.shape[1]:
            scale *= math.isqrt(weight.shape[0] // weight.shape[1])
    return scale


def _steps(ours: str, theirs: str, upsampler: Any) -> dict[str, str]:
    return {f"{ours}.{step}": f"{theirs}.{2 * step}" for step in range(len(upsampler))}


def _edsr_arguments(weights: ExternalWeights) -> dict[str, Any]:
    return {
        "scale": _scale_of(weights, "tail.0"),
        "channels": weights.tensors["head.0.weight"].shape[0],
        "blocks": _count(weights, r"body\.(\d+)\.body\.0\.weight"),
        **_levels(weights),
    }


def _edsr_choices(weights: ExternalWeights, first: str = "head.0") -> dict[str, Any]:
    # The authors trained the wide network alone with it.
    wide = weights.tensors[f"{first}.weight"].shape[0] >= 256
    return {"residual_scale": 0.1 if wide else 1.0}


def _residual_blocks(ours: str, theirs: str, count: int) -> dict[str, str]:
    return {
        f"{ours}.{block}.conv{conv}": f"{theirs}.{block}.body.{2 * (conv - 1)}"
        for block in range(count)
        for conv in (1, 2)
    }


def _edsr_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    blocks = network.config["blocks"]
    layers = {"head": "head.0", "tail": "tail.1", f"body.{blocks}": f"body.{blocks}"}
    layers |= _residual_blocks("body", "body", blocks)
    return _weights_and_biases(layers | _steps("upsample", "tail.0", network.upsample))


def _mdsr_arguments(weights: ExternalWeights) -> dict[str, Any]:
    count = _count(weights, r"upsample\.(\d+)\.0\.weight")
    told = _edsr_arguments(weights)
    return {**told, "scale": tuple(_scale_of(weights, f"upsample.{i}") for i in range(count))}


def _mdsr_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    blocks = network.config["blocks"]
    layers = {"head": "head.0", "tail": "tail.0", f"body.{blocks}": f"body.{blocks}"}
    layers |= _residual_blocks("body", "body", blocks)
    for index, scale in enumerate(map(int, network.scales)):
        upsampler = network.get_submodule(f"upsample.{scale}")
        layers |= _residual_blocks(f"prepare.{scale}", f"pre_process.{index}", 2)
        layers |= _steps(f"upsample.{scale}", f"upsample.{index}", upsampler)
    return _weights_and_biases(layers)


def _rcan_arguments(weights: ExternalWeights) -> dict[str, Any]:
    channels = weights.tensors["head.0.weight"].shape[0]
    squeeze = weights.tensors["body.0.body.0.body.3.conv_du.0.weight"]
    return {
        "scale": _scale_of(weights, "tail.0"),
        "channels": channels,
        "groups": _count(weights, r"body\.(\d+)\.body\.0\.body\.0\.weight"),
        "blocks": _count(weights, r"body\.0\.body\.(\d+)\.body\.0\.weight"),
        "reduction": channels // max(1, squeeze.shape[0]),
        **_levels(weights),
    }


def _rcan_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    groups, blocks = network.config["groups"], network.config["blocks"]
    layers = {"head": "head.0", "tail": "tail.1", f"body.{groups}": f"body.{groups}"}
    for group in range(groups):
        layers[f"body.{group}.{blocks}"] = f"body.{group}.body.{blocks}"
        layers |= _residual_blocks(f"body.{group}", f"body.{group}.body", blocks)
        for block in range(blocks):
            ours, theirs = f"body.{group}.{block}.attention", f"body.{group}.body.{block}.body.3"
            layers[f"{ours}.squeeze"] = f"{theirs}.conv_du.0"
            layers[f"{ours}.excite"] = f"{theirs}.conv_du.2"
    return _weights_and_biases(layers | _steps("upsample", "tail.0", network.upsample))


def _rdn_arguments(weights: ExternalWeights) -> dict[str, Any]:
    first = weights.tensors["RDBs.0.convs.0.conv.0.weight"]
    return {
        "scale": _scale_of(weights, "UPNet"),
        "channels": first.shape[1],
        "growth": first.shape[0],
        "blocks": _count(weights, r"RDBs\.(\d+)\.LFF\.weight"),
        "layers": _count(weights, r"RDBs\.0\.convs\.(\d+)\.conv\.0\.weight"),
        "mean_shift": False,
    }


def _rdn_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    config = network.config
    layers = {"trunk.first": "SFENet1", "trunk.second": "SFENet2", "trunk.fusion": "GFF.0"}
    layers |= {"trunk.last": "GFF.1", "tail": "UPNet.4" if network.scale == 4 else "UPNet.2"}
    for block in range(config["blocks"]):
        layers[f"trunk.blocks.{block}.fusion"] = f"RDBs.{block}.LFF"
        for layer in range(config["layers"]):
            ours = f"trunk.blocks.{block}.layers.{layer}"
            layers[ours] = f"RDBs.{block}.convs.{layer}.conv.0"
    return _weights_and_biases(layers | _steps("upsample", "UPNet", network.upsample))


# ---- EDSR and RCAN as BasicSR names them, and what keeps its names ------------------------------


def _basicsr_edsr_arguments(weights: ExternalWeights) -> dict[str, Any]:
    return {
        "scale": _scale_of(weights, "upsample"),
        "channels": weights.tensors["conv_first.weight"].shape[0],
        "blocks": _count(weights, r"body\.(\d+)\.conv1\.weight"),
    }


def _basicsr_edsr_choices(weights: ExternalWeights) -> dict[str, Any]:
    return {**_edsr_choices(weights, "conv_first"), "levels": 255}


def _basicsr_ends(network: SRNetwork, after_body: int) -> dict[str, str]:
    layers = {"head": "conv_first", f"body.{after_body}": "conv_after_body", "tail": "conv_last"}
    return layers | _steps("upsample", "upsample", network.upsample)


def _basicsr_edsr_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    blocks = network.config["blocks"]
    same = {f"body.{block}.conv{conv}" for block in range(blocks) for conv in (1, 2)}
    return _weights_and_biases(_basicsr_ends(network, blocks) | {name: name for name in same})


def _basicsr_rcan_arguments(weights: ExternalWeights) -> dict[str, Any]:
    channels = weights.tensors["conv_first.weight"].shape[0]
    first = "body.0.residual_group.0.rcab.3.attention.1.weight"
    return {
        "scale": _scale_of(weights, "upsample"),
        "channels": channels,
        "groups": _count(weights, r"body\.(\d+)\.conv\.weight"),
        "blocks": _count(weights, r"body\.0\.residual_group\.(\d+)\.rcab\.0\.weight"),
        "reduction": channels // max(1, weights.tensors[first].shape[0]),
    }


def _basicsr_rcan_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    groups, blocks = network.config["groups"], network.config["blocks"]
    layers = _basicsr_ends(network, groups)
    for group in range(groups):
        layers[f"body.{group}.{blocks}"] = f"body.{group}.conv"
        for block in range(blocks):
            ours, theirs = f"body.{group}.{block}", f"body.{group}.residual_group.{block}.rcab"
            layers[f"{ours}.conv1"], layers[f"{ours}.conv2"] = f"{theirs}.0", f"{theirs}.2"
            layers[f"{ours}.attention.squeeze"] = f"{theirs}.3.attention.1"
            layers[f"{ours}.attention.excite"] = f"{theirs}.3.attention.3"
    return _weights_and_biases(layers)


# ---- DBPN and AWSRN -----------------------------------------------------------------------------


def _dbpn_arguments(weights: ExternalWeights) -> dict[str, Any]:
    kernel = weights.tensors["up1.up_conv1.deconv.weight"]
    return {
        "scale": {6: 2, 8: 4, 12: 8}[kernel.shape[-1]],
        "channels": kernel.shape[0],
        "shallow": weights.tensors["feat0.conv.weight"].shape[0],
        "stages": _count(weights, r"up(\d+)\.up_conv1\.deconv\.weight") - 1,
    }


def _dbpn_prepare(weights: ExternalWeights) -> ExternalWeights:
    # Theirs concatenate the newest features first, ours last.
    channels = weights.tensors["up1.up_conv1.deconv.weight"].shape[0]
    turned = {
        name: value.reshape(value.shape[0], -1, channels, *value.shape[2:]).flip(1).flatten(1, 2)
        for name, value in weights.tensors.items()
        if re.fullmatch(r"(up|down)\d+\.conv\.conv\.weight|output_conv\.conv\.weight", name)
    }
    return replace(weights, tensors=weights.tensors | turned)


def _dbpn_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    blocks = {"first": "feat0", "second": "feat1"}
    names = {"last.weight": "output_conv.conv.weight", "last.bias": "output_conv.conv.bias"}
    stages = network.config["stages"]
    for kind, count in (("up", stages), ("down", stages - 1)):
        for stage in range(count):
            ours, theirs = f"{kind}.{stage}", f"{kind}{stage + 1}"
            blocks[f"{ours}.squeeze"] = f"{theirs}.conv"
            for index, part in enumerate(("there", "back", "again"), start=1):
                blocks[f"{ours}.{part}"] = f"{theirs}.{kind}_conv{index}"
    for ours, theirs in blocks.items():
        layer = "deconv" if f"{theirs}.deconv.weight" in weights.tensors else "conv"
        if f"{theirs}.{layer}.weight" in weights.tensors:
            names |= _weights_and_biases({f"{ours}.0": f"{theirs}.{layer}"})
            names[f"{ours}.1.weight"] = f"{theirs}.act.weight"
    return names


_AWSRN_SIDES = (3, 5, 7, 9)


def _awsrn_arguments(weights: ExternalWeights) -> dict[str, Any]:
    wide, channels = weights.tensors["body.0.b0.body.0.weight_v"].shape[:2]
    return {
        "scale": math.isqrt(weights.tensors["skip.0.bias"].shape[0] // 3),
        "channels": channels,
        "wide": wide,
        "blocks": _count(weights, r"body\.(\d+)\.reduction\.bias"),
        "units": _count(weights, r"body\.0\.b(\d+)\.body\.0\.bias"),
    }


def _awsrn_prepare(weights: ExternalWeights) -> ExternalWeights:
    tensors = {
        # Scalars of theirs are vectors of one number.
        name: value.squeeze() if name.endswith("_scale.scale") else value
        for name, value in weights.tensors.items()
        if not name.startswith("tail.scale_k")
    }
    sides = [weights.tensors[f"tail.scale_k{side}.scale"] for side in _AWSRN_SIDES]
    return replace(weights, tensors=tensors | {"tail.scales": torch.cat(sides)})


def _awsrn_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    layers, weighted = {"head": "head.0", "skip": "skip.0"}, {}
    for index, side in enumerate(_AWSRN_SIDES):
        layers[f"reconstruct.branches.{index}"] = f"tail.tail_k{side}"
    for block in range(network.config["blocks"]):
        layers[f"body.{block}.fusion"] = f"body.{block}.reduction"
        weighted[f"body.{block}"] = f"body.{block}"
        for unit in range(network.config["units"]):
            ours, theirs = f"body.{block}.units.{unit}", f"body.{block}.b{unit}"
            weighted[ours] = theirs
            layers |= {f"{ours}.conv1": f"{theirs}.body.0", f"{ours}.conv2": f"{theirs}.body.2"}
    names = {"reconstruct.weights": "tail.scales"}
    for ours, theirs in layers.items():
        for mine, other in (("weight", "weight_v"), ("gain", "weight_g"), ("bias", "bias")):
            names[f"{ours}.{mine}"] = f"{theirs}.{other}"
    for ours, theirs in weighted.items():
        names[f"{ours}.residual_weight"] = f"{theirs}.res_scale.scale"
        names[f"{ours}.identity_weight"] = f"{theirs}.x_scale.scale"
    return names


# ---- SAFMN and SPAN -----------------------------------------------------------------------------


def _safmn_arguments(weights: ExternalWeights) -> dict[str, Any]:
    channels = weights.tensors["to_feat.weight"].shape[0]
    inner = weights.tensors["feats.0.ccm.ccm.0.weight"].shape[0]
    return {
        "scale": math.isqrt(weights.tensors["to_img.0.weight"].shape[0] // 3),
        "channels": channels,
        "blocks": _count(weights, r"feats\.(\d+)\.safm\.aggr\.weight"),
        "expansion": inner / max(1, channels),
    }


def _safmn_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    layers = {"first": "to_feat", "upsample": "to_img.0"}
    for block in range(network.config["blocks"]):
        inner = {"norm1": "norm1", "norm2": "norm2", "modulation.fusion": "safm.aggr"}
        inner |= {f"modulation.depthwise.{level}": f"safm.mfr.{level}" for level in range(4)}
        inner |= {"expand": "ccm.ccm.0", "project": "ccm.ccm.2"}
        layers |= {f"blocks.{block}.{k}": f"feats.{block}.{v}" for k, v in inner.items()}
    return _weights_and_biases(layers)


def _span_arguments(weights: ExternalWeights) -> dict[str, Any]:
    return {
        "scale": math.isqrt(weights.tensors["upsampler.0.weight"].shape[0] // 3),
        "channels": weights.tensors["conv_1.sk.weight"].shape[0],
        "blocks": _count(weights, r"block_(\d+)\.c1_r\.sk\.weight") - 1,
    }


def _span_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    merged = {"first": "conv_1", "last": "conv_2"}
    for block in range(network.config["blocks"]):
        for conv in (1, 2, 3):
            merged[f"blocks.{block}.conv{conv}"] = f"block_{block + 1}.c{conv}_r"
    layers = {"fusion": "conv_cat", "upsample": "upsampler.0"}
    parts = {"expand": "conv.0", "conv": "conv.1", "project": "conv.2", "shortcut": "sk"}
    for ours, theirs in merged.items():
        layers |= {f"{ours}.{mine}": f"{theirs}.{other}" for mine, other in parts.items()}
    return _weights_and_biases(layers)


# ---- SwinIR -------------------------------------------------------------------------------------


def _swinir_arguments(weights: ExternalWeights) -> dict[str, Any]:
    layer = "layers.0.residual_group.blocks.0"
    channels = weights.tensors["conv_first.weight"].shape[0]
    offsets, heads = weights.tensors[f"{layer}.attn.relative_position_bias_table"].shape
    inner = weights.tensors[f"{layer}.mlp.fc1.weight"].shape[0]
    groups = _count(weights, r"layers\.(\d+)\.conv\.weight")
    depths = (
        _count(weights, rf"layers\.{group}\.residual_group\.blocks\.(\d+)\.norm1\.weight")
        for group in range(groups)
    )
    return {
        "scale": math.isqrt(weights.tensors["upsample.0.weight"].shape[0] // 3),
        "channels": channels,
        "depths": tuple(depths),
        "heads": heads,
        "window": (math.isqrt(offsets) + 1) // 2,
        "expansion": inner / max(1, channels),
    }


def _swinir_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    layers = {"first": "conv_first", "norm": "patch_embed.norm", "last_norm": "norm"}
    layers |= {"last": "conv_after_body", "upsample": "upsample.0"}
    names = {}
    for group, depth in enumerate(network.config["depths"]):
        layers[f"groups.{group}.conv"] = f"layers.{group}.conv"
        for layer in range(depth):
            ours = f"groups.{group}.layers.{layer}"
            theirs = f"layers.{group}.residual_group.blocks.{layer}"
            inner = {"norm1": "norm1", "attention.qkv": "attn.qkv", "norm2": "norm2"}
            inner |= {"attention.project": "attn.proj", "expand": "mlp.fc1", "project": "mlp.fc2"}
            layers |= {f"{ours}.{mine}": f"{theirs}.{other}" for mine, other in inner.items()}
            table = f"{theirs}.attn.relative_position_bias_table"
            names[f"{ours}.attention.position_bias"] = table
    return names | _weights_and_biases(layers)


# ---- SRCNN and FSRCNN: MATLAB, filters in columns -----------------------------------------------


def _scale_in_name(weights: ExternalWeights) -> dict[str, Any]:
    """Their files are called ``x3.mat``, and say nothing of it inside."""
    found = re.search(r"x([2348])(?!\d)", weights.path.stem)
    return {"scale": int(found[1]) if found else None}


def _filters(columns: Tensor) -> Tensor:
    """Filters (outputs, inputs, k, k) from (inputs, k * k, outputs), each column by column."""
    side = math.isqrt(columns.shape[1])
    stacked = columns.permute(2, 0, 1)
    return stacked.reshape(*stacked.shape[:2], side, side).transpose(2, 3)


def _srcnn_prepare(weights: ExternalWeights) -> ExternalWeights:
    first, second, third = (weights.tensors[f"weights_conv{i}"] for i in (1, 2, 3))
    tensors = {
        "layers.0.weight": _filters(first.unsqueeze(0)),
        "layers.1.weight": _filters(second if second.dim() == 3 else second.unsqueeze(1)),
        "layers.2.weight": _filters(third.unsqueeze(-1)),
    }
    for index in range(3):
        tensors[f"layers.{index}.bias"] = weights.tensors[f"biases_conv{index + 1}"].flatten()
    return replace(weights, tensors=tensors, format="pytorch")


def _srcnn_arguments(weights: ExternalWeights) -> dict[str, Any]:
    layers = [_srcnn_prepare(weights).tensors[f"layers.{i}.weight"] for i in range(3)]
    return {
        "channels": (layers[0].shape[0], layers[1].shape[0]),
        "kernels": tuple(layer.shape[-1] for layer in layers),
    }


def _fsrcnn_prepare(weights: ExternalWeights) -> ExternalWeights:
    tensors = {}
    last = _count(weights, r"weights_conv\.(\d+)") - 1
    for index in range(last + 1):
        # Of the deconvolution, inputs stand where outputs stand else, as in PyTorch.
        layer = "deconvolution" if index == last else f"features.{2 * index}"
        tensors[f"{layer}.weight"] = _filters(weights.tensors[f"weights_conv.{index}"])
        bias = tensors[f"{layer}.bias"] = weights.tensors[f"biases_conv.{index}"].flatten()
        if index < last:
            slopes = weights.tensors[f"prelu_conv.{index}"].flatten()
            tensors[f"features.{2 * index + 1}.weight"] = slopes.expand(bias.shape).clone()
    return replace(weights, tensors=tensors, format="pytorch")


def _fsrcnn_arguments(weights: ExternalWeights) -> dict[str, Any]:
    tensors = _fsrcnn_prepare(weights).tensors
    return {
        "channels": tensors["features.0.bias"].shape[0],
        "shrunk": tensors["features.2.bias"].shape[0],
        "depth": _count(weights, r"weights_conv\.(\d+)") - 4,
        "padding": "replicate",
    }


def _as_prepared(network: SRNetwork, weights: ExternalWeights) -> Names:
    return {name: name for name in network.state_dict()}


# ---- MemNet: Caffe ------------------------------------------------------------------------------


def _memnet_arguments(weights: ExternalWeights) -> dict[str, Any]:
    return {
        "channels": weights.tensors["conv1.weight"].shape[0],
        "blocks": _count(weights, r"conv_transition_(\d+)\.weight") - 1,
        "recursions": _count(weights, r"conv01_(\d+)_a\.weight") - 1,
    }


def _memnet_prepare(weights: ExternalWeights) -> ExternalWeights:
    """Batch norm and scale in one, gates cut into one for each memory, recursions once."""
    tensors = dict(weights.tensors)
    for name in [name for name in tensors if re.fullmatch(r"bn_conv.*\.weight", name)]:
        layer = name.removesuffix(".weight")
        # Caffe has sums, and how much they are of.
        by = tensors.pop(f"{layer}.2")
        tensors[f"{layer}.running_mean"] = tensors.pop(f"{layer}.weight") / by
        tensors[f"{layer}.running_var"] = tensors.pop(f"{layer}.bias") / by
        scale = layer.replace("bn_", "scale_", 1)
        tensors[f"{layer}.weight"] = tensors.pop(f"{scale}.weight")
        tensors[f"{layer}.bias"] = tensors.pop(f"{scale}.bias")
    channels = tensors["conv1.weight"].shape[0]
    for name in [name for name in tensors if re.fullmatch(r"(bn_)?conv_transition_\d+\..*", name)]:
        layer, _, kind = name.rpartition(".")
        if layer.startswith("conv") and kind == "bias":
            continue
        value = tensors.pop(name)
        for index, part in enumerate(torch.split(value, channels, int(value.dim() == 4))):
            tensors[f"{layer}.{index}.{kind}"] = part
    shared = {}
    for name in list(tensors):
        first = re.sub(r"^conv(\d+|_end)_(\d+)", lambda m: f"conv{m[1]}_01", name)
        if first != name:
            shared[name] = first
    for name, first in shared.items():
        if not torch.equal(tensors.pop(name), tensors[first]):
            raise UserError(
                f"{weights.path}: '{name}' is not '{first}', which MemNet shares with it."
            )
    for name in [name for name in tensors if name.startswith("weight_output_end_")]:
        tensors.setdefault("outputs", torch.zeros(0))
        tensors["outputs"] = torch.cat([tensors["outputs"], tensors.pop(name).flatten()])
    return replace(weights, tensors=tensors)


def _memnet_names(network: SRNetwork, weights: ExternalWeights) -> Names:
    blocks, recursions = network.config["blocks"], network.config["recursions"]
    layers = {"first.1": "conv1", "reconstruct": "conv_end_01"}
    norms, names = {"first.0": "bn_conv1"}, {"weights": "outputs"}
    for block in range(blocks):
        ours, theirs = f"blocks.{block}", f"{block + 1:02}"
        norms[f"norms.{block}"] = f"bn_conv_end_{theirs}"
        for conv, letter in (("1", "a"), ("2", "b")):
            layers[f"{ours}.conv{conv}"] = f"conv{theirs}_01_{letter}"
            for turn in range(recursions):
                place = f"bn_conv{theirs}_{turn + 1:02}_{letter}"
                norms[f"{ours}.norms{conv}.{turn}"] = place
        for index in range(block + 1 + recursions):
            norms[f"{ours}.gate.{index}.0"] = f"bn_conv_transition_{theirs}.{index}"
            gate = f"conv_transition_{theirs}.{index}.weight"
            names[f"{ours}.gate.{index}.1.weight"] = gate
        names[f"{ours}.gate.0.1.bias"] = f"conv_transition_{theirs}.bias"
    for ours, theirs in norms.items():
        for kind in ("weight", "bias", "running_mean", "running_var"):
            names[f"{ours}.{kind}"] = f"{theirs}.{kind}"
    return names | _weights_and_biases(layers)


_MAPS: dict[str, tuple[type[SRNetwork], Arguments, Callable[..., Names]]] = {
    "vdsr": (VDSR, _vdsr_arguments, _vdsr_names),
    "dncnn": (DnCNN, _dncnn_arguments, _dncnn_names),
    "lapsrn": (LapSRN, _lapsrn_arguments, _lapsrn_names),
    "mslapsrn": (MSLapSRN, _mslapsrn_arguments, _mslapsrn_names),
    "idn": (IDN, _caffe_scale, _idn_names),
    "tscn": (TSCN, _tscn_arguments, _tscn_names),
    "imdn": (IMDN, _imdn_arguments, _imdn_names),
    "carn": (CARN, _carn_arguments, _carn_names),
    "lesrcnn": (LESRCNN, lambda weights: _heads(weights.tensors), _lesrcnn_names),
    "edsr": (EDSR, _edsr_arguments, _edsr_names),
    "mdsr": (MDSR, _mdsr_arguments, _mdsr_names),
    "rcan": (RCAN, _rcan_arguments, _rcan_names),
    "rdn": (RDN, _rdn_arguments, _rdn_names),
    "edsr_basicsr": (EDSR, _basicsr_edsr_arguments, _basicsr_edsr_names),
    "rcan_basicsr": (RCAN, _basicsr_rcan_arguments, _basicsr_rcan_names),
    "dbpn": (DBPN, _dbpn_arguments, _dbpn_names),
    "awsrn": (AWSRN, _awsrn_arguments, _awsrn_names),
    "safmn": (SAFMN, _safmn_arguments, _safmn_names),
    "span": (SPAN, _span_arguments, _span_names),
    "swinir": (SwinIR, _swinir_arguments, _swinir_names),
    "srcnn": (SRCNN, _srcnn_arguments, _as_prepared),
    "fsrcnn": (FSRCNN, _fsrcnn_arguments, _as_prepared),
    "memnet": (MemNet, _memnet_arguments, _memnet_names),
}
_BESIDES: dict[str, dict[str, Any]] = {
    "vdsr": {"choices": lambda weights: {"clip": True}},
    "edsr": {"choices": _edsr_choices},
    "edsr_basicsr": {"choices": _basicsr_edsr_choices},
    "rcan_basicsr": {"choices": lambda weights: {"levels": 255}},
    "span": {"choices": lambda weights: {"white": 255.0}},
    "rdn": {"choices": lambda weights: {"levels": 255}, "ends": ("trunk.first", "tail")},
    "dbpn": {"prepare": _dbpn_prepare},
    "awsrn": {"prepare": _awsrn_prepare},
    "srcnn": {"choices": _scale_in_name, "prepare": _srcnn_prepare},
    "fsrcnn": {"choices": _scale_in_name, "prepare": _fsrcnn_prepare},
    "memnet": {"prepare": _memnet_prepare},
}

RELEASES = {
    name: Release(
        network=_MAPS[name][0],
        arguments=_MAPS[name][1],
        names=_MAPS[name][2],
        **facts,
        **_BESIDES.get(name, {}),
    )
    for name, facts in read_yaml(Path(__file__).parent / "architectures.yaml").items()
}
"""By the name that ``sr-lightning weights convert --arch`` takes."""
