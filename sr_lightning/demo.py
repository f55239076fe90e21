"""``make demo``: the suite's main job in a few minutes on photographs that come with scikit-image.

Trains HFDN x4 on nine photographs, validates on a tenth, tests on an eleventh that it never saw,
and draws what it did. Far from the paper's numbers, but the same code on the same path.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from sr_lightning.cli import main
from sr_lightning.errors import UserError
from sr_lightning.experiments import SUITE

__all__ = ["run"]


def run(root: Path = SUITE, output: str = "runs") -> float:
    """Train, test and draw.

    Args:
        root: Folder whose experiments and configs are used.
        output: Folder of runs.

    Returns:
        Gain over bicubic in dB on the photograph that was not trained on.
    """
    experiment = root / "experiments" / "hfdn_x4.yaml"
    begun = time.monotonic()
    overlays = ["trainer/cpu", "data/sample", "budget/demo"]
    configs = [str(experiment), *(str(root / "configs" / f"{name}.yaml") for name in overlays)]
    where = ["--output.root", output, "--output.name", "demo"]
    main(["fit", *(part for config in configs for part in ("--config", config)), *where])
    print()
    main(["test", "--run", str(Path(output) / "demo")])
    return _conclude(Path(output) / "demo", time.monotonic() - begun)


def _conclude(runs: Path, seconds: float) -> float:
    folder = max(runs.glob("*/results/summary.json"), key=lambda f: f.stat().st_mtime).parent
    means = {
        row["method"]: row for row in json.loads((folder / "summary.json").read_text())["means"]
    }
    gain = float(means["HFDN"]["psnr"] - means["bicubic"]["psnr"])
    picture = next((folder.parent / "images" / "sample-test_x4").glob("*.png"))
    print(
        f"\nHFDN is {gain:+.2f} dB from bicubic on a photograph that it never saw, after "
        f"{seconds / 60:.1f} minutes of training and testing.\nLook at {picture}"
    )
    return gain


if __name__ == "__main__":
    try:
        run()
    except UserError as error:
        print(f"sr-lightning: {error}", file=sys.stderr)
        raise SystemExit(2) from None
