"""Build `edgekit-model-lite0`: a wheel that carries the signed int8 lite0 bundle, made here by our own converter.

With the device wheel and this one, a board classifies without ever having seen TensorFlow:

    pip install 'edgekit-device[opencv,litert]' edgekit-model-lite0
    edgekit-device run
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.results import ROOT

_PYPROJECT = """[build-system]
requires = ["hatchling>=1.25"]
build-backend = "hatchling.build"

[project]
name = "edgekit-model-{short}"
version = "{version}"
description = "EfficientNet-Lite for edgekit-device: {bundle}, fully int8, signed."
license = "Apache-2.0"
requires-python = ">=3.11,<3.14"
dependencies = ["edgekit-device>={device}"]

[project.entry-points."edgekit.models"]
{short} = "edgekit_model_{short}"

[tool.hatch.build.targets.wheel]
packages = ["edgekit_model_{short}"]
artifacts = ["*.edgekit", "*.minisig", "*.pub"]
"""


def main() -> int:
    """Convert, bundle, build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="efficientnet-lite0")
    parser.add_argument("--version", default="1.0.0")
    parser.add_argument("--bundle", type=Path, help="take this bundle instead of making one")
    parser.add_argument("--pubkey", type=Path, help="its public key (default: your own)")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "dist")
    args = parser.parse_args()
    import edgekit
    from edgekit_device.bundle import open_bundle, user_public_key

    short = args.variant.removeprefix("efficientnet-")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        bundle = args.bundle
        if bundle is None:
            model = edgekit.convert(args.variant, out=place / f"{short}.tflite").path
            bundle = edgekit.bundle(model, out=place / f"{short}-{args.version}.edgekit", version=args.version).path
        public = args.pubkey or user_public_key()
        opened, _ = open_bundle(bundle, [public])
        package = place / "wheel" / f"edgekit_model_{short}"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f'"""{opened.manifest.bundle_id}, signed by {opened.key_id}."""\n')
        for file in (bundle, bundle.with_name(bundle.name + ".minisig"), public):
            shutil.copy(file, package / file.name)
        text = _PYPROJECT.format(
            short=short, version=args.version, bundle=opened.manifest.bundle_id, device=edgekit.__version__
        )
        (package.parent / "pyproject.toml").write_text(text)
        args.output.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", args.output, package.parent]
        subprocess.run(words, check=True)
    made = sorted(args.output.glob(f"edgekit_model_{short}-*.whl"))[-1]
    print(f"{made} ({made.stat().st_size / 1e6:.1f} MB); next: pip install {made} && edgekit-device run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
