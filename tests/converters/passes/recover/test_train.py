"""Recovery: a student learns from its teacher, stops in time, and resumes if interrupted."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning", reason="the passes share its module types")

from torch import nn  # noqa: E402

from converters.data.samples import Pool, Sample  # noqa: E402
from converters.data.shelf import Shelf, batches  # noqa: E402
from converters.models.batch_norm import learn_statistics  # noqa: E402
from converters.passes.recover.augment import augment  # noqa: E402
from converters.passes.recover.checkpoint import Best, copy_state, resume  # noqa: E402
from converters.passes.recover.distillation import Distillation, comparable_layers, divergence  # noqa: E402
from converters.passes.recover.pulse import Pulse  # noqa: E402
from converters.passes.recover.rounding import rounding  # noqa: E402
from converters.passes.recover.train import Training  # noqa: E402
from converters.recipe.recover import RecoverOptions  # noqa: E402
from runtimes.errors import InputError, UsageError  # noqa: E402
from runtimes.spec import TensorSpec  # noqa: E402

COUNT = 96
INPUTS = {"x": TensorSpec(shape=("batch", 1, 6, 6))}
SAMPLES = np.random.default_rng(0).normal(0, 1, (COUNT, 1, 6, 6)).astype(np.float32)
QUICK = {"epochs": 4, "batch": 16, "rate": 1e-2, "minutes": 5.0}


def net(width: int = 8, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * width, 4),
    ).eval()


def pool(broken: tuple[int, ...] = ()) -> Pool:
    def read(index: int) -> Sample:
        if index in broken:
            raise InputError(f"sample {index} cannot be read")
        return Sample({"x": SAMPLES[index]})

    return Pool([f"sample {index}" for index in range(COUNT)], read)


def shelf(broken: tuple[int, ...] = ()) -> Shelf:
    return Shelf(pool(broken), INPUTS)


def training(
    student: nn.Module, folder: Path, tell: Any = lambda message: None, **changes: Any
) -> Training:
    options = RecoverOptions.model_validate({**QUICK, **changes})
    checkpoint = folder / "checkpoint.pt"
    return Training(student, net(seed=7), shelf(), range(COUNT), options, True, checkpoint, tell)


@pytest.mark.parametrize("distill", ["logits", "features", "both"])
@pytest.mark.parametrize("aware", [False, True])
def test_a_student_comes_nearer_to_its_teacher(tmp_path: Path, distill: str, aware: bool) -> None:
    student = net()
    course = training(student, tmp_path, distill=distill, aware=aware).run()
    assert course.after < 0.8 * course.before
    assert (course.epochs, course.stopped, course.resumed) == (4, "all epochs done", False)
    assert len(course.curve) == 4
    assert (course.samples, course.held_back) == (86, 10)
    assert bool(course.features) is (distill != "logits")
    assert not (tmp_path / "checkpoint.pt").exists()
    assert not any("parametrizations" in name for name in student.state_dict()), (
        "float weights are left"
    )
    assert not student.training


def test_the_same_seed_gives_the_same_student(tmp_path: Path) -> None:
    states = []
    for _ in range(2):
        student = net()
        training(student, tmp_path, augment=("mix", "flip")).run()
        states.append(student.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_statistics_of_batch_norm_alone_bring_much_back(tmp_path: Path) -> None:
    recovery = training(net(seed=7), tmp_path, distill="batchnorm")
    samples = torch.from_numpy(SAMPLES)
    learn_statistics(recovery.teacher.module, [lambda: recovery.teacher.module(samples)])
    recovery.student.load_state_dict(recovery.teacher.module.state_dict())
    recovery.student[1].running_var.mul_(9)  # type: ignore[operator,union-attr,index]
    course = recovery.run()
    assert course.batch_norm == course.after < 0.2 * course.before
    assert (course.epochs, course.stopped) == (0, "no training was requested")


def test_statistics_that_are_no_better_are_not_taken(tmp_path: Path) -> None:
    student = net(seed=7)  # is the teacher
    before = copy.deepcopy(student.state_dict())
    course = training(student, tmp_path, distill="batchnorm").run()
    assert course.after == course.before == pytest.approx(0, abs=1e-9)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_broken_statistics_are_estimated_again(tmp_path: Path) -> None:
    student = net(seed=7)
    student[1].running_var.fill_(math.nan)  # type: ignore[operator,union-attr,index]
    course = training(student, tmp_path, distill="batchnorm").run()
    assert math.isnan(course.before)
    assert math.isfinite(course.after)


def test_features_alone_leave_the_head_as_it_was(tmp_path: Path) -> None:
    student = net()
    head = copy.deepcopy(student[4].state_dict())  # type: ignore[index,union-attr]
    assert training(student, tmp_path, distill="features").run().features == ["0"]
    assert all(torch.equal(value, student[4].state_dict()[name]) for name, value in head.items())  # type: ignore[index,union-attr]


def test_outputs_are_distilled_if_no_feature_can_be_compared_and_it_says_so(tmp_path: Path) -> None:
    messages: list[str] = []
    course = training(net(4), tmp_path, messages.append, distill="features").run()
    assert course.features == []
    assert "no inner layer kept its shape: only the outputs are distilled" in messages
    assert course.after < course.before


def test_weights_that_are_zero_stay_zero(tmp_path: Path) -> None:
    for aware in (False, True):
        student = net()
        with torch.no_grad():
            student[4].weight[:, ::2] = 0  # type: ignore[index,union-attr]
        training(student, tmp_path, aware=aware).run()
        weight: Any = student[4].weight  # type: ignore[index]
        assert not weight[:, ::2].any()
        assert weight[:, 1::2].all()


def test_a_loss_that_is_not_a_number_stops_it_and_the_best_state_is_kept(tmp_path: Path) -> None:
    student = net()
    recovery = training(student, tmp_path)
    steps = iter(range(1000))
    plain = recovery.distillation

    class Bursts(Distillation):
        def loss(self, student: Any, teacher: Any) -> torch.Tensor:
            loss = plain.loss(student, teacher)
            return loss * math.nan if torch.is_grad_enabled() and next(steps) > 8 else loss

    recovery.distillation = Bursts(True)
    course = recovery.run()
    assert course.stopped == "loss became nan in epoch 2; the best state before it was kept"
    assert course.after == min(course.before, course.batch_norm, course.curve[0])
    assert all(torch.isfinite(value).all() for value in student.state_dict().values())


def test_time_and_patience_end_it(tmp_path: Path) -> None:
    course = training(net(), tmp_path, minutes=1e-9, epochs=50).run()
    assert (course.epochs, course.stopped) == (1, "time limit of 1e-09 minutes reached")
    course = training(net(), tmp_path, rate=1e-12, patience=2, epochs=50).run()
    assert course.stopped == "no improvement for 2 epochs"


def test_a_rate_that_is_too_high_is_lowered_from_the_best_state(tmp_path: Path) -> None:
    student, messages = net(seed=7), list[str]()  # is the teacher, but for a little
    with torch.no_grad():
        student[4].weight.mul_(1.2)  # type: ignore[operator,union-attr,index]
    course = training(student, tmp_path, messages.append, rate=30.0, epochs=12).run()
    assert course.lowered
    assert course.lowered[0] == 0
    assert "back to the best state, with a learning rate of at most 7.5" in messages
    assert course.after <= min(course.before, course.batch_norm)
    assert course.curve[-1] < course.curve[0]


def test_distillation_of_features_alone_leaves_the_outputs_out(tmp_path: Path) -> None:
    alone, both = (
        training(net(), tmp_path, distill=name).distillation for name in ("features", "both")
    )
    assert (alone.features, alone.outputs) == (["0"], False)
    assert (both.features, both.outputs) == (["0"], True)
    nothing = training(net(4), tmp_path, distill="features").distillation
    assert (nothing.features, nothing.outputs) == ([], True), "no inner layer has its old width"


def test_a_student_that_was_frozen_learns_too(tmp_path: Path) -> None:
    student = net()
    student.requires_grad_(False)
    course = training(student, tmp_path).run()
    assert course.after < course.before


class OneByOne(nn.Module):
    """A forward pass that was written for one sample."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.view(1, 1, 6, 6))


def test_a_model_that_takes_fewer_samples_at_once_says_so(tmp_path: Path) -> None:
    def one_by_one(batch: int) -> Training:
        options = RecoverOptions.model_validate({**QUICK, "epochs": 1, "batch": batch})
        student, teacher = OneByOne().eval(), OneByOne().eval()
        return Training(
            student, teacher, shelf(), range(COUNT), options, True, tmp_path / "checkpoint.pt"
        )

    with pytest.raises(
        UsageError, match=r"does not run on 16 samples at once: RuntimeError: .*; lower `batch`"
    ):
        one_by_one(16).run()
    assert one_by_one(1).run().epochs == 1


def test_one_sample_after_the_other(tmp_path: Path) -> None:
    course = training(net(), tmp_path, batch=1, epochs=1, rate=1e-3).run()
    assert course.epochs == 1
    assert course.after < course.before


def test_a_student_that_computes_no_numbers_yet_is_judged_from_the_first_that_are(
    tmp_path: Path,
) -> None:
    student = net()
    student[1].running_var.fill_(math.nan)  # type: ignore[operator,union-attr,index]
    course = training(student, tmp_path).run()
    assert math.isnan(course.before)
    assert math.isfinite(course.batch_norm)
    assert course.after <= course.batch_norm
    assert all(torch.isfinite(value).all() for value in student.state_dict().values())


def test_outputs_that_are_integers_cannot_be_distilled(tmp_path: Path) -> None:
    x = torch.from_numpy(SAMPLES[:4])
    with pytest.raises(UsageError, match="the model's outputs are integers"):
        Distillation(False).answers(net(), lambda module: module(x).argmax(-1))


def test_samples_of_several_lengths_make_batches_of_one_length_each() -> None:
    inputs = {"x": TensorSpec(shape=("batch", "length"))}

    def read(index: int) -> Sample:
        if index == 5:
            raise InputError("sample 5 cannot be read")
        return Sample({"x": np.full(3 + index % 3, index, np.float32)})

    texts = Shelf(Pool([f"text {index}" for index in range(200)], read), inputs)
    for rng in (None, np.random.default_rng(0)):
        parts = list(texts.batches(range(20), 4, rng))
        assert sorted(index for part in parts for index in part) == [*range(5), *range(6, 20)]
        for part in parts:
            assert texts.batch(part)["x"].shape == (len(part), 3 + part[0] % 3)
            assert len(part) <= 4
    assert [part[0] % 3 for part in parts] != sorted(part[0] % 3 for part in parts), (
        "lengths take turns in training"
    )


def test_a_model_of_texts_is_trained_on_several_lengths(tmp_path: Path) -> None:
    inputs = {"x": TensorSpec(shape=("batch", "length", 4))}
    lengths = [2 + index % 4 for index in range(COUNT)]
    rng = np.random.default_rng(0)
    texts = [rng.normal(0, 1, (length, 4)).astype(np.float32) for length in lengths]
    source = Pool([str(length) for length in lengths], lambda index: Sample({"x": texts[index]}))
    torch.manual_seed(0)
    student, teacher = nn.Linear(4, 3), nn.Linear(4, 3)
    options = RecoverOptions.model_validate({**QUICK, "distill": "both"})
    shelf = Shelf(source, inputs)
    checkpoint = tmp_path / "checkpoint.pt"
    course = Training(student, teacher, shelf, range(COUNT), options, False, checkpoint).run()
    assert course.after < course.before


def test_a_long_epoch_shows_how_far_it_is(tmp_path: Path) -> None:
    messages: list[str] = []
    recovery = training(net(), tmp_path, epochs=1)
    recovery.pulse = Pulse(messages.append, seconds=0)
    recovery.run()
    assert messages == [f"epoch 1 of at most 1: batch {number} of 6" for number in range(1, 7)]
    seldom = Pulse(messages.append)
    seldom("too early")
    assert "too early" not in messages


class Interrupted(Exception):
    pass


def test_an_interrupted_training_goes_on_where_it_was(tmp_path: Path) -> None:
    def interrupt(message: str) -> None:
        if message.startswith("epoch 3"):
            raise Interrupted

    with pytest.raises(Interrupted):
        training(net(), tmp_path, interrupt).run()
    assert (tmp_path / "checkpoint.pt").is_file()
    messages: list[str] = []
    course = training(net(), tmp_path, messages.append).run()
    assert "resuming after epoch 2" in messages
    assert (course.epochs, course.resumed, len(course.curve)) == (4, True, 4)
    assert course.after < course.before


def test_a_training_whose_checkpoint_cannot_be_read_starts_again(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 no zip")
    course = training(net(), tmp_path).run()
    assert (course.epochs, course.resumed) == (4, False)


def test_a_checkpoint_with_a_part_missing_leaves_the_student_as_it_was(tmp_path: Path) -> None:
    path, student, other = tmp_path / "checkpoint.pt", net(), net(seed=3)
    optimizer, device = torch.optim.AdamW(student.parameters()), torch.device("cpu")
    torch.save({"student": other.state_dict(), "optimizer": optimizer.state_dict()}, path)
    best = Best(1.0, copy_state(student))
    assert resume(path, student, optimizer, best, device) is None
    assert all(torch.equal(value, best.state[name]) for name, value in student.state_dict().items())
    assert not path.exists()


def test_rounded_layers_compute_in_steps_and_are_float_again_afterwards() -> None:
    module, x = net(), torch.from_numpy(SAMPLES[:8])
    before = copy.deepcopy(module.state_dict())
    with torch.no_grad():
        exact = module(x)
    with rounding(module, True):
        module(x)  # it observes the ranges
        with torch.no_grad():
            rounded = module(x)
            assert len(module[0].weight[0].unique()) <= 9  # type: ignore[index,union-attr]
    error = float((rounded - exact).norm() / exact.norm())
    assert 1e-4 < error < 0.1, "int8 keeps two digits"
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())
    with rounding(module, False), torch.no_grad():
        assert torch.equal(module(x), exact)


def test_layers_that_are_called_by_keyword_keep_their_inputs_when_rounded() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(input=x)

    module, x = Named(), torch.from_numpy(SAMPLES[:4, 0, 0])
    with torch.no_grad():
        exact = module(x)
    with rounding(module, True), torch.no_grad():
        assert float((module(x) - exact).norm() / exact.norm()) < 0.1, "its weights are rounded"


def test_inner_layers_of_equal_shape_are_compared() -> None:
    x = torch.from_numpy(SAMPLES[:4])
    assert comparable_layers(net(), net(seed=7), lambda module: module(x)) == ["0"]
    layers = comparable_layers(net(4), net(8), lambda module: module(x))
    assert layers == [], "the widths differ, the last is the output"


def test_the_loss_of_equal_answers_is_nothing() -> None:
    logits = torch.randn(6, 5)
    assert float(divergence(logits, logits, 2.0)) == pytest.approx(0, abs=1e-6)
    assert float(divergence(logits, logits + 3)) == pytest.approx(0, abs=1e-6), (
        "a shift changes no probability"
    )
    distillation = Distillation(False)
    assert float(distillation.loss(([logits], []), ([logits], []))) == 0
    assert float(distillation.loss(([logits * 0], []), ([logits], []))) > 0.5


def test_flips_and_blends_keep_shapes_and_what_is_no_picture() -> None:
    tensors = {"image": torch.arange(24.0).view(2, 1, 3, 4), "id": torch.tensor([1, 2])}
    changed = augment(tensors, ("flip", "mix"), np.random.default_rng(0))
    assert changed["image"].shape == (2, 1, 3, 4)
    assert torch.equal(changed["id"], tensors["id"])
    flipped = augment(tensors, ("flip",), np.random.default_rng(3))["image"]
    for row, old in zip(flipped, tensors["image"], strict=True):
        assert torch.equal(row, old) or torch.equal(row, old.flip(-1))


def test_a_shelf_reads_each_sample_once_and_leaves_out_what_is_broken() -> None:
    read: list[int] = []
    source = pool(broken=(3,))

    def counted(index: int) -> Sample:
        read.append(index)
        return source.read(index)

    samples = Shelf(Pool(source.names, counted), INPUTS)
    for _ in range(2):
        assert len(samples.batch([1, 2, 3])["x"]) == 2
    assert read == [1, 2, 3]
    assert samples.notes == ["left out: sample 3 cannot be read"]
    with pytest.raises(UsageError, match="2 samples cannot be read"):
        shelf(broken=(1, 2)).batch([0, 1, 2])


def test_batches_cover_everything_and_none_has_one_sample() -> None:
    parts = list(batches(range(10, 31), 4, np.random.default_rng(0)))
    assert [len(part) for part in parts] == [4] * 5, (
        "a last batch of one would leave BatchNorm no variance"
    )
    assert set().union(*parts) <= set(range(10, 31))
    assert list(batches([5], 4)) == [[5]]
    assert list(batches([5, 6], 1)) == [[5], [6]]
