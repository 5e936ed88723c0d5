"""The other side of test_parity.py, in a process of its own: PyTorch builders on the same weights and photos.

Run as ``python oracle_torch.py JOB IN.npz OUT_FOLDER``; writes probabilities.npz and, for timm, weights files.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

KEPT: list[object] = []


def official(name: str, weights: str) -> torch.nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_pretrained(name, weights_path=weights)


def declare_torchvision_operators() -> None:
    """Let timm import torchvision where its wheel was built for another torch (CUDA beside CPU).

    Its compiled operators are missing then and its import fails for the want of their names; nothing here calls them.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        operators = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        KEPT.append(operators)  # a Library takes its operators with it when it is collected
        for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[module]


def of_timm(architecture: str, given: np.lib.npyio.NpzFile, folder: Path) -> torch.nn.Module:
    import safetensors.torch

    declare_torchvision_operators()
    import timm

    model = timm.create_model(architecture, num_classes=1000)
    tensors = {name: torch.from_numpy(given[name]) for name in given.files if name not in ("images", "weights")}
    lacking = model.load_state_dict(tensors, strict=False)
    assert not lacking.unexpected_keys, lacking
    assert all(name.endswith("num_batches_tracked") for name in lacking.missing_keys), lacking
    state = model.state_dict()
    for form in ("zip", "legacy", "safetensors"):
        (folder / form).mkdir()
        cfg = {k: v for k, v in model.pretrained_cfg.items() if isinstance(v, (str, int, float, list, tuple))}
        config = {"architecture": architecture, "num_classes": 1000, "pretrained_cfg": cfg}
        (folder / form / "config.json").write_text(json.dumps(config))
    torch.save(state, folder / "zip" / "model.pth")
    torch.save({"epoch": 3, "state_dict": state}, folder / "legacy" / "model.pth", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(state, folder / "safetensors" / "model.safetensors")
    for name, kind in (("half", torch.float16), ("bfloat16", torch.bfloat16), ("double", torch.float64)):
        torch.save({"w": torch.linspace(-3, 3, 12).to(kind).reshape(3, 4).t()}, folder / f"{name}.pth")
    return model


def main() -> None:
    job, given, out = sys.argv[1], np.load(sys.argv[2]), Path(sys.argv[3])
    images = torch.from_numpy(given["images"].transpose(0, 3, 1, 2).copy())
    model = official(job, str(given["weights"])) if job.startswith("efficientnet-") else of_timm(job, given, out)
    with torch.no_grad():
        probabilities = model.eval()(images).softmax(-1).numpy()
    np.savez(out / "probabilities.npz", probabilities=probabilities)


if __name__ == "__main__":
    main()
