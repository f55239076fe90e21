"""``make docs``: docstrings, READMEs and option tables as a site in build/docs, by pdoc.

Whatever is wrong (a warning, a link that leads nowhere) ends it with an error.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
import shutil
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from jsonargparse import ArgumentParser
from pdoc import doc, render

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "docs"
# Run by Python and setuptools, not imported.
SKIPPED = {"sr_lightning.__main__", "sr_lightning.wheel"}
PAGES = {
    "README.md": "index",
    ".github/TROUBLESHOOTING.md": "troubleshooting",
    ".github/CONTRIBUTING.md": "contributing",
    ".github/SECURITY.md": "security",
    "experiments/studies/README.md": "studies",
}
LINKS = "[All options](options.html) · [all modules](sr_lightning.html) · [studies](studies.html)"
STYLE = "<style>main img {max-width: 100%} table {display: block; overflow-x: auto}</style>"


def page_of(file: Path) -> str | None:
    """Name of the module page that shows a Markdown file, None where there is none."""
    name = file.relative_to(ROOT).as_posix()
    if name.startswith("sr_lightning/") and file.name == "README.md":
        return ".".join(file.relative_to(ROOT).parent.parts)
    return PAGES.get(name)


def text_of(file: Path, page: str) -> str:
    """A Markdown file whose links lead to pages of the site, or to copies of files."""
    up = "../" * page.count(".")

    def lead(match: re.Match[str]) -> str:
        target, hash_, anchor = match[1].partition("#")
        if target.startswith("http") or not target:
            return match[0]
        there = (file.parent / target).resolve()
        if there.is_dir():
            there /= "README.md"
        linked = page_of(there)
        if linked is None:
            copy = OUT / there.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(there, copy)
            return f"]({up}{there.relative_to(ROOT).as_posix()})"
        return f"]({up}{linked.replace('.', '/')}.html{hash_}{anchor})"

    return re.sub(r"\]\(([^)\s]+)\)", lead, file.read_text())


def options() -> str:
    """Every option of modules and data modules, as the command line takes them."""
    import lightning.pytorch as pl

    from sr_lightning.data import datamodule
    from sr_lightning.runs import OutputOptions
    from sr_lightning.training.module import SRModule
    from sr_lightning.training.wandb_logging import WandbOptions

    def below(kind: type) -> Iterator[type]:
        for one in kind.__subclasses__():
            if one.__module__.startswith("sr_lightning."):
                yield one
            yield from below(one)

    modules = [("model", kind) for kind in (SRModule, *below(SRModule))]
    data = [
        ("data", kind)
        for kind in vars(datamodule).values()
        if inspect.isclass(kind)
        and issubclass(kind, pl.LightningDataModule)
        and kind.__module__ == datamodule.__name__
    ]
    lines = ["# Options", "", "As `sr-lightning fit` takes them, on the command line and in YAML."]
    for prefix, kind in [*modules, *data, ("output", OutputOptions), ("wandb", WandbOptions)]:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(kind, prefix, fail_untyped=False, sub_configs=True)
        lines += ["", f"## {kind.__name__}", "", "| option | default | meaning |", "|---|---|---|"]
        for action in parser._actions:
            if action.dest.startswith(f"{prefix}.") and not action.dest.endswith(".help"):
                meaning = " ".join(str(action.help or "").split()).replace("|", "\\|")
                default = "" if action.default is inspect.Parameter.empty else action.default
                lines.append(f"| `--{action.dest}` | `{default!s}` | {meaning} |")
    return "\n".join(lines)


def broken() -> list[str]:
    """Links inside of the site that lead nowhere."""
    texts = {path: path.read_text() for path in OUT.rglob("*.html")}
    found = []
    for path, text in texts.items():
        for link in re.findall(r'<(?:a|img|link)\b[^>]*\b(?:href|src)="([^"]+)"', text):
            target, _, anchor = unquote(link).partition("#")
            there = Path(os.path.normpath(path.parent / target)) if target else path
            if re.match(r"[a-z]+:|\$", link):
                continue
            if not there.exists() or (
                anchor and there in texts and f'id="{anchor}"' not in texts[there]
            ):
                found.append(f"{path.relative_to(OUT)}: {link}")
    return found


def main() -> None:
    """Build the site."""
    sys.path.insert(0, os.fspath(ROOT))
    import sr_lightning

    shutil.rmtree(OUT, ignore_errors=True)
    modules: dict[str, doc.Module] = {}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = pkgutil.walk_packages(sr_lightning.__path__, "sr_lightning.")
        for name in ["sr_lightning", *(m.name for m in found if m.name not in SKIPPED)]:
            module = importlib.import_module(name)
            for late in getattr(module, "__all__", ()):
                # Packages look theirs up when they are asked for.
                setattr(module, late, getattr(module, late))
            modules[name] = doc.Module(module)
        for name, module in modules.items():
            # By pdoc those in __all__ alone.
            inside = [m for other, m in modules.items() if other.rpartition(".")[0] == name]
            vars(module)["submodules"] = inside
        texts = {page: text_of(ROOT / file, page) for file, page in PAGES.items()}
        texts["index"] = f"{LINKS}\n\n{texts['index']}"
        for page, text in {**texts, "options": options()}.items():
            module = types.ModuleType(page, text)
            modules[page] = doc.Module(module)
        for name, module in modules.items():
            readme = ROOT.joinpath(*name.split("."), "README.md")
            if name.startswith("sr_lightning") and readme.is_file():
                module.obj.__doc__ = f"{module.docstring}\n\n{text_of(readme, name)}"
                module.__dict__.pop("docstring", None)
        render.configure(docformat="google", footer_text=f"sr-lightning {sr_lightning.__version__}")
        for module in modules.values():
            file = OUT / f"{module.fullname.replace('.', '/')}.html"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(
                render.html_module(module, modules).replace("</head>", f"{STYLE}</head>")
            )
        (OUT / "search.js").write_text(render.search_index(modules))
    # Keys of a TypedDict have no place in its source that pdoc knows.
    faults = [str(w.message) for w in said if "pdoc" in w.filename]
    faults = [fault for fault in faults if "data.batch.Batch." not in fault]
    if faults := [*faults, *broken()]:
        raise SystemExit("\n".join(faults))
    print(f"{len(modules)} pages: {OUT / 'index.html'}")


if __name__ == "__main__":
    main()
