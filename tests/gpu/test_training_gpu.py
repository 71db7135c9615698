"""Training on a GPU: the learner under NCCL, in bf16, against the CPU. No Ray: a machine with a GPU may have none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from mgc.features.front_end import build_front_end
from mgc.features.normalization import Normalization
from mgc.models.architecture import build_model
from mgc.recipes.catalogue import find
from mgc.training.augment import AugmentConfig
from mgc.training.loop import Batch, Learner, TrainingConfig

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

GENRES, BATCH, BATCHES = 8, 64, 12
DEVICE = torch.device("cuda")


@pytest.fixture(scope="module")
def nccl() -> Iterator[None]:
    """A process group of this process alone; over two GPUs it is the same code."""
    distributed.init_process_group(
        "nccl", store=distributed.HashStore(), rank=0, world_size=1, device_id=torch.device("cuda:0")
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()


def recipe(**fields: str) -> tuple[TrainingConfig, torch.nn.Module, tuple[int, ...]]:
    """The house's recipe on clips of 128 x 128, without what is drawn by chance."""
    made = find("house").build().override({"model.dropout": "0", "training.gradient_clip": "1", **fields})
    shape = build_front_end(made.front_end).shape
    torch.manual_seed(0)
    config = replace(made.training, augment=AugmentConfig(), average=0.0)
    return config, build_model(made.model, shape, GENRES), shape


def clips(shape: tuple[int, ...], batches: int = BATCHES) -> list[Batch]:
    """Genres that are loud in bins of their own."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(batches):
        genre_B = random.integers(0, GENRES, BATCH)
        features_BFT = random.integers(0, 120, (BATCH, *shape), dtype=np.uint8)
        for row, genre in enumerate(genre_B):
            features_BFT[row, 16 * genre : 16 * genre + 16] += 60
        ids = [str(number) for number in range(BATCH)]
        found.append(Batch(torch.from_numpy(features_BFT), torch.from_numpy(genre_B), ids))
    return found


def learner(config: TrainingConfig, model: torch.nn.Module, bins: int, device: torch.device) -> Learner:
    normalization = Normalization((70.0,) * bins, (40.0,) * bins)
    return Learner(model, config, normalization, GENRES, device, (100,) * GENRES)


def test_the_loss_in_bf16_falls_under_nccl(nccl: None) -> None:
    """A recipe of the house as it is trained: wrapped for data-parallel training, channels last, autocast."""
    config, model, shape = recipe(**{"training.precision": "bf16"})
    model.to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload]
    taught = learner(config, DistributedDataParallel(model, device_ids=[0]), shape[0], DEVICE)
    given = clips(shape)
    losses = [taught.train_epoch(given, epoch, len(given)).loss for epoch in range(4)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.5 * losses[0]
    held = taught.validate(clips(shape, 2))
    assert held.accuracy > 0.9
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    sums = torch.tensor([held.loss_sum, float(held.clips)], device=DEVICE)
    distributed.all_reduce(sums)
    assert sums.tolist() == pytest.approx([held.loss_sum, 2 * BATCH])


def test_a_step_gives_what_it_gives_on_the_cpu() -> None:
    """In float32 without TF32: the losses of the first steps, then the logits."""
    steps, losses = 4, {}
    logits = {}
    for device in (torch.device("cpu"), DEVICE):
        config, model, shape = recipe(**{"training.precision": "float32", "training.learning_rate": "1e-4"})
        model.to(device)
        taught = learner(config, model, shape[0], device)
        seen: list[float] = []
        given = clips(shape, steps)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            taught.train_epoch(given, 0, steps, on_step=lambda clips, loss, seen=seen: seen.append(loss))
            held = taught.validate(given[:1])
            model.eval()
            with torch.no_grad():
                logits[device.type] = model(given[0].features_BFT[:8].to(device).float() / 100).cpu()
        losses[device.type] = [*seen, held.loss]
    assert losses["cuda"] == pytest.approx(losses["cpu"], abs=2e-3)
    assert float((logits["cuda"] - logits["cpu"]).abs().max()) < 2e-2


def test_a_checkpoint_of_a_gpu_goes_on_on_a_cpu() -> None:
    config, model, shape = recipe(**{"training.precision": "float32"})
    model.to(DEVICE)
    taught = learner(config, model, shape[0], DEVICE)
    given = clips(shape, 2)
    taught.train_epoch(given, 0, 2)
    tensors = taught.optimizer_tensors()
    assert all(tensor.device.type == "cpu" for tensor in tensors.values())
    _, again, _ = recipe(**{"training.precision": "float32"})
    again.load_state_dict({name: tensor.cpu() for name, tensor in model.state_dict().items()})
    other = learner(config, again, shape[0], torch.device("cpu"))
    other.load_optimizer_tensors(tensors)
    first, second = taught.train_epoch(given, 1, 2).loss, other.train_epoch(given, 1, 2).loss
    assert first == pytest.approx(second, abs=5e-3)


def test_clips_a_second_are_stated(capsys: pytest.CaptureFixture[str]) -> None:
    """Not a bound of speed, which is the machine's: a figure, and that bf16 on a GPU is no slower than float32."""
    rates = {}
    for precision in ("float32", "bf16"):
        config, model, shape = recipe(**{"training.precision": precision})
        model.to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload]
        taught = learner(config, model, shape[0], DEVICE)
        [batch] = clips(shape, 1)
        taught.train_epoch([batch] * 20, 0, 20)
        torch.cuda.synchronize()
        begun = time.perf_counter()
        taught.train_epoch([batch] * 200, 1, 200)
        torch.cuda.synchronize()
        rates[precision] = 200 * BATCH / (time.perf_counter() - begun)
    with capsys.disabled():
        said = ", ".join(f"{precision} {rate:,.0f} clips/s" for precision, rate in rates.items())
        print(f"\n{torch.cuda.get_device_name()}: house, batches of {BATCH}, {said}")
    assert min(rates.values()) > 100
