"""PyTorch's quantize_dynamic on the same weights and crops, in a Python that has torch.

    python torch_dynamic.py WORK WEIGHTS.pth

Reads WORK/torch-input.npz (pixels, uint8, (n, height, width, 3)); writes torch-scores.npy and torch-facts.json.
"""

from __future__ import annotations

import io
import json
import statistics
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch

_ROUNDS = 30


def main() -> None:
    """Quantise, score, time."""
    from efficientnet_lite_pytorch import EfficientNet

    work, weights = Path(sys.argv[1]), sys.argv[2]
    warnings.simplefilter("ignore")
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    # It quantises linear and recurrent layers; a convolution has no dynamic form and stays in float.
    small = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear, torch.nn.Conv2d}, dtype=torch.qint8)
    pixels = np.load(work / "torch-input.npz")["pixels"]
    images = torch.from_numpy((pixels.astype(np.float32) - 127) / 128).permute(0, 3, 1, 2).contiguous()
    with torch.inference_mode():
        scores = torch.cat([small(image[None]).softmax(dim=1) for image in images])
        torch.set_num_threads(1)
        taken = []
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            small(images[:1])
            taken.append(1000 * (time.perf_counter() - began))
    buffer = io.BytesIO()
    torch.save(small.state_dict(), buffer)
    np.save(work / "torch-scores.npy", scores.numpy().astype(np.float32))
    facts = {"torch": torch.__version__, "bytes": len(buffer.getvalue()), "ms": statistics.median(taken)}
    (work / "torch-facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
