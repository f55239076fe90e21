"""Weights go to folders as the Hugging Face hub has them, to it and back; tests send nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from sr_lightning import load, save_pretrained
from sr_lightning.baselines.fsrcnn import FSRCNN
from sr_lightning.cli import main
from sr_lightning.errors import UserError


def test_a_saved_folder_is_loaded_again(tmp_path):
    network = FSRCNN(3, channels=8).eval()
    save_pretrained(network, tmp_path / "mine")
    again = load(tmp_path / "mine")
    assert again.config == network.config
    lr = torch.rand(1, 3, 6, 7)
    with torch.no_grad():
        assert torch.equal(again(lr), network(lr))


def test_the_model_card_is_made_from_the_record(tmp_path, capsys):
    main(["weights", "push", "fsrcnn_x4", str(tmp_path / "f")])
    assert sorted(p.name for p in (tmp_path / "f").iterdir()) == [
        *("README.md", "config.json", "model.safetensors")
    ]
    card = (tmp_path / "f" / "README.md").read_text()
    _, metadata, text = card.split("---\n", 2)
    assert yaml.safe_load(metadata) == {
        "license": "mit",
        "library_name": "sr-lightning",
        "pipeline_tag": "image-to-image",
        "tags": ["super-resolution", "fsrcnn"],
    }
    assert "FSRCNN x4" in text
    assert "| Set5 x4 | 30.31 | 0.8617 |" in text
    assert "Measured under `edsr2017`" in text
    config = json.loads((tmp_path / "f" / "config.json").read_text())
    assert config["class_path"].endswith("FSRCNN")
    shipped = load("fsrcnn_x4").state_dict()
    assert all(
        torch.equal(v, shipped[k]) for k, v in load_file(tmp_path / "f/model.safetensors").items()
    )


def test_the_hubs_own_mixin_reads_what_is_saved(tmp_path):
    hub = pytest.importorskip("huggingface_hub")

    class Mine(torch.nn.Module, hub.PyTorchModelHubMixin):
        def __init__(self, class_path, init_args):
            super().__init__()
            for name, part in FSRCNN(**init_args).named_children():
                self.add_module(name, part)

    network = FSRCNN(4, channels=8)
    save_pretrained(network, tmp_path)
    state = Mine.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The hub's functions on a folder of this machine."""
    library = pytest.importorskip("huggingface_hub")
    root = tmp_path / "hub"

    def download(repo_id, filename, revision=None):
        assert revision in {None, "v1"}
        return str(root / repo_id / filename)

    def upload(repo_id, folder_path):
        (root / repo_id).parent.mkdir(parents=True, exist_ok=True)
        Path(folder_path).rename(root / repo_id)

    monkeypatch.setattr(library, "hf_hub_download", download)
    monkeypatch.setattr(library, "create_repo", lambda *_, **__: None)
    monkeypatch.setattr(library, "upload_folder", upload)
    return root


def test_weights_are_pushed_and_loaded_by_the_name_of_the_repository(hub, capsys):
    main(["weights", "push", "fsrcnn_x4", "hf:me/fsrcnn"])
    assert "hf:me/fsrcnn" in capsys.readouterr().out
    assert "# fsrcnn_x4" in (hub / "me" / "fsrcnn" / "README.md").read_text()
    pushed = load("hf:me/fsrcnn@v1").state_dict()
    assert all(torch.equal(v, pushed[k]) for k, v in load("fsrcnn_x4").state_dict().items())


@pytest.mark.parametrize("offline", [True, False])
def test_without_the_hub_one_sentence_says_so(offline, monkeypatch, tmp_path):
    library = pytest.importorskip("huggingface_hub")
    if offline:
        monkeypatch.setattr(library.constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(library.constants, "HF_HUB_CACHE", str(tmp_path))
    else:

        def refused(*_args, **_options):
            raise ConnectionError("[Errno -2] Name or service not known\nmore")

        monkeypatch.setattr(library, "hf_hub_download", refused)
    with pytest.raises(UserError, match=r"hf:me/x cannot be fetched: .*check the name") as said:
        load("hf:me/x")
    assert "\n" not in str(said.value)


def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'sr-lightning\[hub\]'"):
        load("hf:me/x")


def test_authors_weights_without_a_licence_are_not_published(tmp_path):
    with pytest.raises(SystemExit):
        main(["weights", "push", "lesrcnn_x4@authors", "hf:me/lesrcnn"])


def test_a_repository_whose_file_names_code_is_refused(hub, tmp_path):
    from safetensors.torch import save_file

    (hub / "bad" / "one").mkdir(parents=True)
    named = json.dumps({"class_path": "os.system", "init_args": {"command": "touch x"}})
    path = hub / "bad" / "one" / "model.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"network": named})
    with pytest.raises(UserError, match=r"'os\.system', which is neither of this suite"):
        load("hf:bad/one")
