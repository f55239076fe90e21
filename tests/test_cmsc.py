"""CMSC: counts, the published figure's data flow, ablations, and the network contract."""

from __future__ import annotations

import pytest
import torch
from conftest import EXPERIMENTS, ROOT, only_run, tiny_fit
from torch import nn
from torch.nn import functional as F

from sr_lightning.colour import rgb_to_y
from sr_lightning.errors import UserError
from sr_lightning.experiments import experiment_file
from sr_lightning.inference.upscaler import Upscaler
from sr_lightning.nn.bicubic import bicubic
from sr_lightning.nn.complexity import complexity, parameter_count
from sr_lightning.papers.cmsc import CMSC
from sr_lightning.papers.cmsc.module import CMSCModule
from sr_lightning.training.complexity import network_of_config

EXPERIMENT_FILES = sorted(path.stem for path in EXPERIMENTS.glob("cmsc*.yaml"))
# Wide enough that no layer is dead by chance.
SMALL = {"stages": 2, "modules": 2, "channels": 16, "width": 8, "start": "random"}
ABLATIONS = {
    "single scale": {"kernels": (3, 3)},
    "sum": {"merge": "sum"},
    "no cross": {"cross": False},
    "no residual features": {"residual": False},
    "shared reconstruction": {"reconstruction": "shared"},
    "uniform": {"assembly": "uniform"},
    "last": {"assembly": "last"},
    "one stage": {"stages": 1},
    "one module": {"modules": 1},
}


def test_default_has_the_published_size():
    """The survey says 1,220k; the spec's count of this configuration is exact."""
    network = CMSC()
    assert parameter_count(network) == 1_221_958
    assert parameter_count(CMSC(reconstruction="shared")) == 1_220_804
    assert sum(p.numel() for p in network.parameters() if p.dim() == 4) == 1_218_816


def test_default_has_the_published_depth():
    """35 layers on the longest path, as the survey says."""
    network = CMSC()
    branch = [m for m in network.stages[0].crosses[0].first.modules() if isinstance(m, nn.Conv2d)]
    in_stage = 1 + len(network.stages[0].crosses) * len(branch)
    assert 1 + len(network.stages) * in_stage + 1 == 35


@pytest.mark.parametrize("experiment", ["cmsc", "cmsc_x2", "cmsc_x3", "cmsc_x4"])
def test_experiments_of_the_paper_have_its_size(experiment):
    network = network_of_config(experiment_file(ROOT, experiment))
    assert parameter_count(network) == 1_221_958


@pytest.mark.parametrize("scale", [2, 4])
def test_macs_do_not_depend_on_the_scale(scale):
    assert complexity(CMSC([2, 3, 4]), scale=scale).macs / 1e9 == pytest.approx(1123.3, abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        ({"width": 16}, 668_518),
        ({"kernels": (3, 3)}, 730_438),
        ({"assembly": "last"}, 1_221_955),
        ({"assembly": "uniform"}, 1_221_955),
        ({"cross": False, "residual": False, "merge": "sum"}, 1_221_958),
    ],
)
def test_parameters_of_ablations(arguments, parameters):
    assert parameter_count(CMSC(**arguments)) == parameters


def from_the_figure(network, y, share, cross, residual):
    """Predictions by the paper's figure, written down with the network's own convolutions."""
    features, predictions = network.extract(y), []
    for index, stage in enumerate(network.stages):
        a = b = stage.first(F.relu(features))
        for place, module in enumerate(stage.crosses):
            residuals = [
                branch.spread(F.relu(branch.narrow(F.relu(state))))
                for branch, state in ((module.first, a), (module.second, b))
            ]
            merged = share * (a + b)
            if place == len(stage.crosses) - 1:
                joined = residuals[0] + residuals[1] + merged
            elif cross:
                a, b = residuals[0] + merged, residuals[1] + merged
            else:
                a, b = residuals[0] + a, residuals[1] + b
        features = joined + features if residual else joined
        predictions.append(y + network.reconstruct[index](F.relu(features)))
    return [*predictions, sum(w * p for w, p in zip(network.weights, predictions, strict=True))]


@pytest.mark.parametrize("merge", ["mean", "sum"])
@pytest.mark.parametrize("cross", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_data_flows_as_in_the_figure(merge, cross, residual):
    torch.manual_seed(0)
    network = CMSC(
        stages=2, modules=3, channels=8, width=4, merge=merge, cross=cross, residual=residual
    ).double()
    network.weights.data = torch.tensor([0.3, 0.9], dtype=torch.float64)
    y = torch.rand(2, 1, 9, 7, dtype=torch.float64)
    share = {"mean": 0.5, "sum": 1.0}[merge]
    expected = from_the_figure(network, y, share, cross, residual)
    torch.testing.assert_close(network.refine(y), expected)


def test_prediction_without_residuals_is_the_interpolated_image():
    network = CMSC(3, **SMALL)
    for reconstruct in network.reconstruct:
        nn.init.zeros_(reconstruct.weight)
        nn.init.zeros_(reconstruct.bias)
    lr = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(network(lr), bicubic(lr, 3), atol=1e-5, rtol=1e-5)
    for prediction in network.supervised_outputs(lr):
        torch.testing.assert_close(prediction, bicubic(rgb_to_y(lr), 3))


def test_assembly_starts_uniform_and_is_learned_only_when_asked():
    learned, uniform = CMSC(**SMALL), CMSC(assembly="uniform", **SMALL)
    uniform.load_state_dict(learned.state_dict(), strict=False)
    y = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(learned.refine(y), uniform.refine(y))
    assert isinstance(learned.weights, nn.Parameter)
    assert not uniform.weights.requires_grad


@pytest.mark.parametrize("name", list(ABLATIONS))
def test_ablations_predict_every_output_and_learn_everywhere(name):
    torch.manual_seed(0)
    module = CMSCModule(CMSC(scale=2, **(SMALL | ABLATIONS[name])))
    network = module.network
    lr = torch.rand(2, 3, 7, 9)
    predictions = network.supervised_outputs(lr)
    assert [p.shape for p in predictions] == [(2, 1, 14, 18)] * len(network.outputs)
    assert (network.outputs[-1] == "assembled") == (name != "last")
    module.losses({"lr": lr, "hr": torch.rand(2, 3, 14, 18), "scale": 2})["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_tiles_give_the_whole_images_result(scale):
    torch.manual_seed(0)
    network = CMSC([2, 3, 4], stages=1, modules=2, channels=8, width=4, start="random").eval()
    lr = torch.rand(1, 3, 31, 22)
    with torch.no_grad():
        tiled = Upscaler(network, tile=12)(lr, scale)
        torch.testing.assert_close(tiled, network(lr, scale), rtol=0, atol=1e-6)


def test_exported_graph_upscales_any_size_and_leaves_the_network_as_it_was():
    """Interpolation keeps its kernels; those that a graph was traced with are no numbers."""
    network = CMSC(5, stages=1, modules=1, channels=8, width=4).eval()
    sizes = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    graph = torch.export.export(network, (torch.rand(2, 3, 9, 7),), dynamic_shapes=({**sizes},))
    lr = torch.rand(1, 3, 17, 23)
    torch.testing.assert_close(graph.module()(lr), network(lr))


@pytest.mark.parametrize("weights", [None, [0.1, 0.2, 0.7]])
def test_loss_is_the_weighted_error_of_every_prediction(weights):
    torch.manual_seed(0)
    module = CMSCModule(CMSC(scale=2, **SMALL), supervision=weights)
    batch = {"lr": torch.rand(2, 3, 8, 8), "hr": torch.rand(2, 3, 16, 16), "scale": 2}
    predictions = module.network.supervised_outputs(batch["lr"])
    errors = [(p - rgb_to_y(batch["hr"])).square().mean() for p in predictions]
    expected = sum(w * e for w, e in zip(weights or [1 / 3] * 3, errors, strict=True))
    losses = module.losses(batch)
    torch.testing.assert_close(losses["loss"], expected)
    torch.testing.assert_close(losses["mse_assembled"], errors[-1])


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="odd"):
        CMSC(kernels=(3, 4))
    with pytest.raises(ValueError, match="a stage and a module"):
        CMSC(stages=0)
    with pytest.raises(UserError, match=r"supervision has 2 numbers, but 4 predictions"):
        CMSCModule(CMSC(), supervision=[0.5, 0.5])


def test_multi_scale_experiment_mixes_scales_through_the_command_line(
    tmp_path, monkeypatch, train_folder, val_folder
):
    from sr_lightning.cli import main

    seen = []
    losses = CMSCModule.losses

    def noting(self, batch):
        seen.append((batch["scale"], batch["hr"].shape[-1] // batch["lr"].shape[-1]))
        return losses(self, batch)

    monkeypatch.setattr(CMSCModule, "losses", noting)
    small = [f"--model.network.{name}={value}" for name, value in SMALL.items()]
    options = {"trainer__max_steps": 6, "trainer__precision": "bf16-mixed", "seed_everything": 1}
    fit = tiny_fit("cmsc", tmp_path, train_folder, val_folder, **options)
    main([*fit, *small])
    assert {scale for scale, _ in seen} == {2, 3, 4}
    assert all(scale == ratio for scale, ratio in seen)
    (checkpoint,) = (only_run(tmp_path) / "checkpoints").glob("last*")
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert not torch.equal(state["network.weights"], torch.full((2,), 0.5))
    assert all(torch.isfinite(v).all() for v in state.values() if v.is_floating_point())


@pytest.mark.parametrize("experiment", [e for e in EXPERIMENT_FILES if e != "cmsc"])
def test_experiment_fits_through_the_command_line(experiment, tmp_path, train_folder, val_folder):
    """The real files, bf16 as on machines that have it, with a narrow and shallow network."""
    from sr_lightning.cli import main

    small = {f"model__network__{name}": value for name, value in SMALL.items()}
    options = {"trainer__max_steps": 2, "trainer__limit_val_batches": 1} | small
    options |= {"trainer__precision": "bf16-mixed"}
    main(tiny_fit(experiment, tmp_path, train_folder, val_folder, **options))
    (checkpoint,) = (only_run(tmp_path) / "checkpoints").glob("last*")
    content = torch.load(checkpoint, weights_only=True)
    assert content["global_step"] == 2
    weights = [v for k, v in content["state_dict"].items() if k.startswith("network.")]
    assert weights
    assert all(torch.isfinite(weight).all() for weight in weights)
