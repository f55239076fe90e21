"""Which classes files may name, and what a stranger's files can and cannot do."""

from __future__ import annotations

import functools
import json
import pickle
import shutil
import sys
from copy import deepcopy
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, save_pictures
from lightning.pytorch.loggers import MLFlowLogger
from safetensors.torch import load_file, save_file
from torch import nn

from sr_lightning import classes
from sr_lightning.classes import find_class, own_modules, use_current_folder, use_plugin
from sr_lightning.cli import main
from sr_lightning.errors import UserError
from sr_lightning.nn.network import SRNetwork
from sr_lightning.report.build import build_report
from sr_lightning.report.measurements import Evidence
from sr_lightning.studies.ledger import Ledger
from sr_lightning.studies.study import load_study, own_studies
from sr_lightning.weights.files import load_network, save_network
from sr_lightning.weights.zoo import load_weights

NETWORK = '''
from pathlib import Path

import torch
from torch import nn
from sr_lightning.nn.network import SRNetwork

Path(__file__).with_name("imported").touch()


class Net(SRNetwork):
    def __init__(self, scale: int = 4, width: int = 4):
        super().__init__()
        self.scales = (scale,)
        self.a = nn.Conv2d(3, width, 3, padding=1)
        self.b = nn.Conv2d(width, 3 * scale**2, 3, padding=1)
        self.up = nn.PixelShuffle(scale)

    def forward(self, lr):
        return self.up(self.b(torch.relu(self.a(lr))))


class Plain(nn.Module):
    """Takes and gives 0 to 255, and sides that are a multiple of 8 alone."""

    def __init__(self, channels: int = 3):
        super().__init__()
        self.up = nn.Upsample(scale_factor=2)
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x):
        assert x.shape[-1] % 8 == x.shape[-2] % 8 == 0
        self.largest = x.max()
        return self.up(x) * self.gain


class Writes(torch.optim.SGD):
    def __init__(self, params, lr: float = 0.1):
        Path("built").touch()
        super().__init__(params, lr)


def function(params, lr: float = 0.1) -> torch.optim.Optimizer:
    Path("called").touch()
    return torch.optim.SGD(params, lr)
'''

CONFIG = """
seed_everything: 0
wandb: {mode: disabled}
model:
  class_path: sr_lightning.training.module.SRModule
  init_args:
    network: {class_path: MODULE.Net}
    optimizer: {class_path: torch.optim.Adam, init_args: {lr: 1.0e-3}}
data:
  class_path: sr_lightning.data.PatchDataModule
  init_args: {train: [photos], holdout: 1, test: [bench], patch_size: 8, batch_size: 2}
trainer: {accelerator: cpu, max_steps: 2, val_check_interval: 2, log_every_n_steps: 1}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with a user's network in ``fx_net.py``, and with a run of it."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        (folder / "fx_net.py").write_text(NETWORK)
        (folder / "fx_net.yaml").write_text(CONFIG.replace("MODULE", "fx_net"))
        save_pictures(folder / "photos", 2, (64, 64), seed=1)
        save_pictures(folder / "bench", 1, (48, 48), seed=5)
        main(["fit", "--config", "fx_net.yaml", "--output.folder", "run"])
        (folder / "imported").unlink()
    forget()
    return folder


def forget() -> None:
    """Let modules of these tests be imported anew."""
    for name in [name for name in sys.modules if name.startswith("fx_")]:
        del sys.modules[name]


@pytest.fixture
def here(finished, tmp_path, monkeypatch) -> Path:
    """A copy of that folder as the current one, where nothing is imported yet."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(finished)])
    monkeypatch.setenv("SR_PLUGINS", "")
    use_current_folder()
    yield tmp_path
    forget()


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 2
    (message,) = [line for line in capsys.readouterr().err.splitlines() if "sr-lightning:" in line]
    return message


def edited(run: Path, place: str, value: object) -> Path:
    """A run whose config has another value at a dotted place."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    *path, last = place.split(".")
    inner = config
    for key in path:
        inner = inner[key]
    inner[last] = deepcopy(value)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return run


# ---- what is found ------------------------------------------------------------------------------


def test_classes_of_the_suite_and_of_what_it_is_built_on_are_found():
    assert find_class("sr_lightning.papers.hfdn.HFDN", SRNetwork).__name__ == "HFDN"
    assert find_class("torch.optim.Adam", torch.optim.Optimizer) is torch.optim.Adam


def test_a_python_file_of_the_current_folder_is_the_users_own(here):
    assert own_modules() == ["fx_net"]
    assert issubclass(find_class("fx_net.Net", SRNetwork), SRNetwork)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("os.system", "'os.system' is not imported"),
        ("subprocess.Popen", "'subprocess.Popen' is not imported"),
        ("builtins.eval", "'builtins.eval' is not imported"),
        ("this.Zen", "'this.Zen' is not imported"),
        ("scipy.optimize.Bounds", "add --plugin scipy.optimize"),
        ("nowhere.Net", "run this in the folder of nowhere.py"),
        ("Net", "'Net' is not imported"),
        ("torch.hub.load", "'torch.hub.load' is a function; files may name classes only"),
        ("torch.optim.NoSuch", "has no class 'NoSuch'"),
        ("torch.nn.Conv2d", "is not a subclass of sr_lightning.nn.network.SRNetwork"),
        ("fx_net.Path", "'pathlib.Path' is not imported"),
        ("fx_net.function", "is a function"),
        ("fx_broken.Net", "cannot be imported (SyntaxError"),
    ],
)
def test_all_else_is_refused_with_a_sentence(here, path, words):
    (here / "fx_broken.py").write_text("class Net(:")
    with pytest.raises(UserError) as said:
        find_class(path, SRNetwork)
    assert words in str(said.value)
    assert "this" not in sys.modules


def test_a_file_with_the_name_of_an_installed_module_is_not_taken_for_it(here):
    for name in ("os", "numpy"):
        (here / f"{name}.py").write_text("raise RuntimeError")
    assert own_modules() == ["fx_net"]


def test_a_folder_that_is_no_package_is_not_the_users_own(here):
    (here / "fx_unpacked").mkdir()
    (here / "fx_unpacked" / "net.py").write_text(NETWORK)
    with pytest.raises(UserError, match=r"add --plugin fx_unpacked\.net"):
        find_class("fx_unpacked.net.Net", SRNetwork)
    assert not (here / "imported").exists()


def test_modules_named_with_plugin_are_taken(here, monkeypatch):
    (here / "elsewhere").mkdir()
    (here / "elsewhere" / "fx_far.py").write_text(NETWORK)
    monkeypatch.setattr(sys, "path", [str(here / "elsewhere"), *sys.path])
    with pytest.raises(UserError, match="add --plugin fx_far"):
        find_class("fx_far.Net", SRNetwork)
    use_plugin("fx_far")
    assert find_class("fx_far.Net", SRNetwork).__name__ == "Net"


@pytest.mark.parametrize(
    ("module", "words"),
    [("os", "part of Python"), ("nowhere", "no such module"), ("fx_net.py", "without '.py'")],
)
def test_a_plugin_that_cannot_be_one_is_refused(here, capsys, module, words):
    assert words in refused(capsys, "study", "--plugin", module, "list")


def test_packages_that_register_networks_are_taken(here, monkeypatch):
    (here / "elsewhere").mkdir()
    (here / "elsewhere" / "fx_installed.py").write_text(NETWORK)
    monkeypatch.setattr(sys, "path", [str(here / "elsewhere"), *sys.path])
    point = EntryPoint("net", "fx_installed:Net", classes.GROUP)
    monkeypatch.setattr(classes, "entry_points", lambda group: [point])
    assert find_class("fx_installed.Net", SRNetwork).__name__ == "Net"


# ---- run folders --------------------------------------------------------------------------------

OPTIMIZER = "model.init_args.optimizer"
TOUCH = {"command": "touch PWNED"}
REFUSED = {
    "os.system": (OPTIMIZER, {"class_path": "os.system", "init_args": TOUCH}),
    "bare string": (OPTIMIZER, "os.system"),
    "os.popen": (OPTIMIZER, {"class_path": "os.popen", "init_args": {"cmd": "touch PWNED"}}),
    "getoutput": (
        OPTIMIZER,
        {"class_path": "subprocess.getoutput", "init_args": {"cmd": "touch PWNED"}},
    ),
    "eval": (OPTIMIZER, {"class_path": "builtins.eval"}),
    "scheduler": ("model.init_args.scheduler", {"class_path": "posix.system", "init_args": TOUCH}),
    "through torch": (OPTIMIZER, {"class_path": "torch.os.system", "init_args": TOUCH}),
    "function of torch": (OPTIMIZER, {"class_path": "torch.hub.load", "init_args": {"model": "m"}}),
    "function that makes one": (OPTIMIZER, {"class_path": "fx_net.function"}),
    "other class": (OPTIMIZER, {"class_path": "torch.nn.Conv2d"}),
    "network": ("model.init_args.network", {"class_path": "os.system", "init_args": TOUCH}),
    "adapted": (
        "model.init_args.network",
        {
            "class_path": "sr_lightning.nn.adapter.Adapted",
            "init_args": {"module": {"class_path": "os.system", "init_args": TOUCH}},
        },
    ),
    "model": ("model", {"class_path": "os.system", "init_args": TOUCH}),
    "data": ("data.class_path", "subprocess.Popen"),
    "callback": ("trainer.callbacks", [{"class_path": "subprocess.Popen"}]),
    "function of a callback": (
        "trainer.callbacks",
        [
            {
                "class_path": "lightning.pytorch.callbacks.LambdaCallback",
                "init_args": {"on_test_start": "torch.hub.load"},
            }
        ],
    ),
    "logger": ("trainer.logger", {"class_path": "os.system", "init_args": TOUCH}),
    "plugin": ("trainer.plugins", [{"class_path": "os.system", "init_args": TOUCH}]),
    "strategy": ("trainer.strategy", {"class_path": "os.system", "init_args": TOUCH}),
    "not imported": ("model.init_args.network.class_path", "this.Zen"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_run_cannot_have_code_called_that_is_no_class_of_the_list(here, capsys, case):
    place, value = REFUSED[case]
    edited(here / "run", place, value)
    message = refused(capsys, "test", "--run", "run")
    assert "not imported" in message or "class" in message
    assert not any((here / left).exists() for left in ("PWNED", "called"))
    assert "this" not in sys.modules


@pytest.mark.parametrize("command", ["fit", "validate", "predict"])
def test_no_command_calls_what_a_run_names(here, capsys, command):
    edited(here / "run", *REFUSED["os.system"])
    message = refused(capsys, command, "--run", "run")
    assert f"model.optimizer: '{'os.system'}' is not imported" in message
    assert not (here / "PWNED").exists()


def test_the_command_line_is_held_to_the_same(here, capsys):
    for option in ("--model.optimizer=os.system", "--model.optimizer.class_path=os.system"):
        assert "'os.system' is not imported" in refused(capsys, "test", "--run", "run", option)


def test_yaml_is_read_without_python_tags(here, capsys):
    config = here / "run" / "config.yaml"
    tag = "!!python/object/apply:os.system ['touch PWNED']"
    config.write_text(f"{config.read_text()}\nx: {tag}\n")
    assert "could not determine a constructor" in refused(capsys, "test", "--run", "run")
    assert not (here / "PWNED").exists()


@pytest.mark.parametrize("given", [["--run", "fx_theirs"], ["--run", "."]])
def test_files_of_a_run_are_never_imported(here, capsys, monkeypatch, given):
    run = (here / "run").rename(here / "fx_theirs")
    (run / "__init__.py").write_text(NETWORK)
    (run / "fx_inner.py").write_text(NETWORK)
    named = "fx_theirs.Net" if given[1] == "fx_theirs" else "fx_inner.Net"
    edited(run, "model.init_args.network", {"class_path": named})
    if given[1] == ".":
        monkeypatch.chdir(run)
    message = refused(capsys, "test", *given)
    assert f"'{named}' is not imported" in message
    assert not (here / "imported").exists()
    assert not (run / "imported").exists()


def test_a_run_can_have_a_file_of_the_current_folder_imported(here):
    main(["test", "--run", "run"])
    assert (here / "imported").exists()


def test_a_file_of_a_run_does_not_stand_in_for_the_users_own(here, monkeypatch):
    (here / "run" / "fx_net.py").write_text("raise RuntimeError")
    # As in notebooks and 'python -c': whatever folder is the current one, first of all.
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    main(["test", "--run", "run"])
    assert sys.modules["fx_net"].__file__ == str(here / "fx_net.py")


def test_optimizers_are_built_for_training_alone(here):
    edited(here / "run", OPTIMIZER, {"class_path": "fx_net.Writes"})
    main(["test", "--run", "run"])
    assert not (here / "built").exists()
    main(["fit", "--config", "run/config.yaml", "--output.folder", "again"])
    assert (here / "built").exists()


class _Bomb:
    def __reduce__(self):
        return (open, ("exploded.txt", "w"))


def test_a_run_cannot_have_pickled_code_run(here):
    for checkpoint in (here / "run" / "checkpoints").glob("*.ckpt"):
        content = torch.load(checkpoint, weights_only=True)
        torch.save(content | {"bomb": _Bomb()}, checkpoint)
    for command in ("fit", "validate", "test"):
        with pytest.raises((SystemExit, pickle.UnpicklingError)):
            main([command, "--run", "run"])
    with pytest.raises(UserError, match="is damaged, or holds Python objects"):
        load_weights("run")
    assert not (here / "exploded.txt").exists()


def test_a_run_can_write_where_it_sends_the_image_cache(here):
    edited(here / "run", "data.init_args.cache", str(here / "elsewhere"))
    main(["test", "--run", "run"])
    assert list((here / "elsewhere").rglob("manifest.json"))


def test_a_run_can_write_where_it_sends_a_logger_and_ask_for_wandb(here, capsys, monkeypatch):
    logger = "lightning.pytorch.loggers.CSVLogger"
    value = {"class_path": logger, "init_args": {"save_dir": str(here / "elsewhere")}}
    edited(here / "run", "trainer.logger", value)
    main(["test", "--run", "run"])
    assert list((here / "elsewhere").rglob("metrics.csv"))
    monkeypatch.setenv("NETRC", str(here / "none"))
    monkeypatch.setenv("HOME", str(here))
    edited(here / "run", "wandb.mode", "online")
    assert "no W&B API key" in refused(capsys, "test", "--run", "run")


def test_a_run_can_send_its_numbers_where_a_logger_of_its_config_does(here, capsys, monkeypatch):
    @functools.wraps(MLFlowLogger.__init__)
    def connect(self, **given):
        raise UserError(f"connected to {given['tracking_uri']}")

    monkeypatch.setattr(MLFlowLogger, "__init__", connect)
    logger = "lightning.pytorch.loggers.MLFlowLogger"
    value = {"class_path": logger, "init_args": {"tracking_uri": "http://192.0.2.1"}}
    edited(here / "run", "trainer.logger", value)
    assert "connected to http://192.0.2.1" in refused(capsys, "test", "--run", "run")


# ---- weight files -------------------------------------------------------------------------------


def test_weights_of_a_run_are_built_from_the_class_of_its_config(here):
    assert type(load_weights("run")).__module__ == "fx_net"


def weights_elsewhere(here: Path) -> Path:
    """A weight file of the user's network outside its run."""
    checkpoint = next((here / "run" / "checkpoints").glob("*.ckpt"))
    return shutil.copy(checkpoint, here / "net.ckpt")


def test_a_weight_file_alone_cannot_name_a_class_of_the_current_folder(here, capsys):
    weights_elsewhere(here)
    image = str(next((here / "bench").iterdir()))
    message = refused(capsys, "upscale", image, "--weights", "net.ckpt")
    assert "belongs to 'fx_net.Net'" in message
    assert "add --plugin fx_net" in message
    assert not (here / "imported").exists()
    main(["upscale", image, "--weights", "net.ckpt", "--plugin", "fx_net"])
    assert (here / "bench" / "img_00_x4.png").is_file()


def test_a_config_that_names_another_class_does_not_speak_for_its_weights(here):
    edited(here / "run", "model.init_args.network.class_path", "sr_lightning.papers.hfdn.HFDN")
    with pytest.raises(UserError, match=r"belongs to 'fx_net\.Net'"):
        load_weights("run")
    assert not (here / "imported").exists()


@pytest.mark.parametrize(
    "description",
    [
        {"class_path": "os.system", "init_args": TOUCH},
        {"class_path": "sr_lightning.errors.UserError"},
        {
            "class_path": "sr_lightning.nn.adapter.Adapted",
            "init_args": {"module": {"class_path": "fx_net.Plain"}},
        },
        {"class_path": 5},
        ["os.system"],
        {},
    ],
    ids=str,
)
def test_weights_of_what_is_no_network_are_refused(here, description):
    path = here / "x.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"network": json.dumps(description)})
    with pytest.raises(UserError):
        load_network(path)
    assert not any((here / left).exists() for left in ("PWNED", "imported"))


# ---- studies and experiments --------------------------------------------------------------------

STUDY = """
title: a study
paper: mine
factor: width
base: fx_net
measure: {metric: psnr, protocol: edsr2017, sets: [bench]}
levels:
  small: {}
  wide: LEVEL
budgets: {quick: {set: {trainer.max_steps: 2}}}
"""


def test_the_levels_of_a_study_cannot_have_code_imported_or_called(here, capsys):
    file = here / "fx_study.yaml"
    file.write_text(STUDY.replace("LEVEL", "{model.optimizer: os.system}"))
    (*_, cell) = load_study(file, ROOT).cells("quick", seeds=1)
    assert "'os.system' is not imported" in refused(capsys, *cell.fit_arguments(here / "cell"))


def test_an_experiment_cannot_have_code_imported_when_it_is_counted(here, capsys):
    config = yaml.safe_load((here / "fx_net.yaml").read_text())
    config["model"]["init_args"]["optimizer"] = {"class_path": "os.system", "init_args": TOUCH}
    (here / "fx_net.yaml").write_text(yaml.safe_dump(config))
    assert "'os.system' is not imported" in refused(capsys, "complexity", "fx_net.yaml")
    assert not (here / "PWNED").exists()


def test_a_study_finds_experiments_and_keeps_results_beside_its_file(here):
    file = here / "fx_study.yaml"
    file.write_text(STUDY.replace("LEVEL", "{experiment: fsrcnn_x4_fast}"))
    with pytest.raises(UserError, match="must share"):
        load_study(file, ROOT)
    file.write_text(STUDY.replace("LEVEL", "{model.network.width: 8}"))
    study = load_study(file, ROOT)
    assert study.results == here / "results"
    assert study.experiment("small") == here / "fx_net.yaml"
    suite = next((ROOT / "experiments" / "studies").glob("*.yaml"))
    assert load_study(suite, ROOT).results == ROOT / "experiments" / "results"


def test_studies_of_the_current_folder_are_found_and_reported(here):
    suites = {path.name for path in (ROOT / "experiments" / "studies").glob("*.yaml")}
    (here / "fx_study.yaml").write_text(STUDY.replace("LEVEL", "{model.network.width: 8}"))
    (found,) = own_studies(ROOT, here)
    assert found.name == "fx_study"
    (here / "experiments").mkdir()
    evidence = Evidence(here, Ledger(here / "experiments" / "results"), own=[found])
    assert evidence.published.tables == ()
    assert [paper.title for paper in build_report(evidence).papers] == ["Studies of your own"]
    (here / min(suites)).write_text((here / "fx_study.yaml").read_text())
    with pytest.raises(UserError, match="give yours another name"):
        own_studies(ROOT, here)


# ---- networks that cannot work ------------------------------------------------------------------

BAD = """
import torch
from torch import nn
from sr_lightning.nn.network import SRNetwork


class Base(SRNetwork):
    def __init__(self, scale: int = 4):
        super().__init__()
        self.scales = (scale,)
        self.up = nn.Upsample(scale_factor=scale)
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, lr):
        return self.up(lr) * self.gain


class NoScales(SRNetwork):
    def forward(self, lr):
        return lr


class ScaleInt(Base):
    def __init__(self, scale: int = 4):
        super().__init__(scale)
        self.scales = scale


class WrongSize(Base):
    def forward(self, lr):
        return lr * self.gain


class Window(Base):
    def forward(self, lr):
        n, c, h, w = lr.shape
        return super().forward(lr.view(n, c, h // 8, 8, w // 8, 8).reshape(n, c, h, w))


class NaN(Base):
    def forward(self, lr):
        return super().forward(lr) / 0 * 0


class Listed(Base):
    def forward(self, lr):
        return [super().forward(lr)]


class NotPlain(Base):
    def __init__(self, body: nn.Module, scale: int = 4):
        super().__init__(scale)
        self.body = body
"""


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("NoScales", "has to say its scales"),
        ("ScaleInt", "has to say its scales"),
        ("WrongSize", "gives (1, 3, 16, 16) for an image of 16 x 16 pixels at x4, where (1, 3, 64"),
        ("Window", "fails on an image of 19 x 17 pixels at x4"),
        ("NaN", "gives NaN or infinite numbers"),
        ("Listed", "gives list"),
        ("NotPlain", "constructed with body = Identity object, which a weight file cannot"),
        ("Missing", "has no attribute 'Missing'"),
        ("nn.Conv2d", "sr_lightning.nn.adapter.Adapted"),
    ],
)
def test_a_network_that_cannot_work_is_refused_before_training(here, capsys, network, words):
    (here / "fx_bad.py").write_text(BAD)
    use_current_folder()
    named = network if "." in network else f"fx_bad.{network}"
    named = named.replace("nn.Conv2d", "torch.nn.Conv2d")
    more = ["--model.network.body", "torch.nn.Identity"] if network == "NotPlain" else []
    fit = ["fit", "--config", "fx_net.yaml", "--output.folder", "new"]
    assert words in refused(capsys, *fit, f"--model.network={named}", *more)
    assert not (here / "new" / "config.yaml").exists()


def test_arguments_by_any_name_are_remembered_one_by_one(tmp_path):
    class Open(SRNetwork):
        def __init__(self, upscale: int = 2, *rest: int, **more: int) -> None:
            super().__init__()
            self.scales = (upscale,)

    assert Open(3, width=5).config == {"upscale": 3, "width": 5}


# ---- plain modules ------------------------------------------------------------------------------


def adapted(colour: str = "rgb", **arguments: object) -> SRNetwork:
    from sr_lightning.nn.adapter import Adapted

    channels = 3 if colour == "rgb" else 1
    module = {"class_path": "fx_net.Plain", "init_args": {"channels": channels}}
    return Adapted(module, scale=2, colour=colour, multiple=8, **arguments)


@pytest.mark.parametrize("colour", ["rgb", "y"])
def test_a_plain_module_sees_the_range_and_sizes_that_it_was_made_for(here, colour):
    network = adapted(colour, range=255.0)
    lr = torch.rand(1, 3, 11, 13)
    lr[..., 0, 0] = 1
    sr = network(lr)
    assert network.module.largest == pytest.approx(255 if colour == "rgb" else 235)
    assert sr.shape == (1, 3, 22, 26)
    (prediction,) = network.supervised_outputs(lr)
    assert prediction.shape == network.target(sr).shape
    if colour == "rgb":
        assert torch.allclose(sr, nn.functional.interpolate(lr, scale_factor=2.0), atol=1e-6)
    else:
        assert torch.allclose(network.target(sr), prediction, atol=1e-5)


def test_the_mean_is_taken_off_and_put_back(here):
    network = adapted(mean=[0.5, 0.5, 0.5])
    lr = torch.rand(1, 3, 8, 8)
    assert torch.allclose(network(lr), nn.functional.interpolate(lr, scale_factor=2.0), atol=1e-6)
    assert network.module.largest < 0.5
    with pytest.raises(UserError, match="3 channels, not 1"):
        adapted(mean=[0.5])


def test_a_plain_module_is_saved_and_comes_back(here):
    network = adapted(range=255.0)
    save_network(network, here / "a.safetensors")
    with pytest.raises(UserError, match=r"belongs to 'fx_net\.Plain'"):
        load_network(here / "a.safetensors")
    use_plugin("fx_net")
    loaded = load_network(here / "a.safetensors")
    assert loaded.config == network.config
    assert load_file(here / "a.safetensors").keys() == {"module.gain"}
