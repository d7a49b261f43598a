"""Structured pruning: the smaller module equals the large one with silenced channels."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning", reason="structured pruning needs it")

from torch import nn  # noqa: E402

from converters.models.attention import HeadAttention, replace_attentions  # noqa: E402
from converters.models.operations import count  # noqa: E402
from converters.models.parts import LAYERS  # noqa: E402
from converters.models.structure import Structure, apply, difference  # noqa: E402
from converters.passes.prune.cost.cost import mac_costs, parameter_costs  # noqa: E402
from converters.passes.prune.groups import collect_removed, count_units, find_choices  # noqa: E402
from converters.passes.prune.importance import scorer  # noqa: E402
from converters.passes.prune.selection import select_units  # noqa: E402
from converters.passes.prune.shrink import Gone, shrink  # noqa: E402
from converters.passes.prune.structured import PruningInputs, prune_structured  # noqa: E402
from converters.recipe.prune import PruneOptions  # noqa: E402
from runtimes.errors import UsageError  # noqa: E402


class Residual(nn.Module):
    """A stem, a block whose result is added, a depthwise and a grouped convolution, a head."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.point = nn.Conv2d(width, 2 * width, 1)
        self.grouped = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=4)
        self.head = nn.Linear(2 * width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.second(torch.relu(self.first(x))))
        x = torch.relu(self.point(torch.relu(self.depthwise(x))))
        x = torch.relu(self.grouped(x))
        return self.head(x.mean((2, 3)))


class Transformer(nn.Module):
    """One block of attention and two layers, as vision transformers have it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.inner = nn.Linear(32, 128)
        self.outer = nn.Linear(128, 32)
        self.head = nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.outer(torch.nn.functional.gelu(self.inner(x)))
        return self.head(x.mean(1))


class Dense(nn.Module):
    """What is concatenated, pooled, flattened, and upsampled by a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(19, 16, 3, padding=1)
        self.norm, self.act = nn.BatchNorm2d(35), nn.PReLU(35)
        self.up = nn.ConvTranspose2d(35, 12, 2, stride=2)
        self.head = nn.Linear(12 * 9, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.cat([x, torch.relu(self.first(x))], 1)
        y = self.act(self.norm(torch.cat([y, torch.relu(self.second(y))], 1)))
        return self.head(nn.functional.adaptive_avg_pool2d(self.up(y), 3).flatten(1))


class Sound(nn.Module):
    """Convolutions over time, flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.act = (
            nn.Conv1d(3, 16, 3, padding=1),
            nn.BatchNorm1d(16),
            nn.PReLU(16),
        )
        self.second, self.head = nn.Conv1d(16, 32, 3, padding=1), nn.Linear(32 * 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.second(self.act(self.norm(self.first(x)))))
        return self.head(nn.functional.adaptive_avg_pool1d(x, 4).flatten(1))


class Weighed(nn.Module):
    """A forward pass that relies on the width of its first layer only."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (
            nn.Linear(256, 64),
            nn.Linear(64, 64),
            nn.Linear(64, 64),
        )
        self.head = nn.Linear(64, 3)
        self.register_buffer("scale", torch.linspace(0.5, 2, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x)) * self.scale
        return self.head(torch.relu(self.third(torch.relu(self.second(x)))))


class Resized(nn.Module):
    """A forward pass that relies on a width."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 64), nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)).view(-1, 2, 32)[:, 0])


def build(factory: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return factory().eval()


def samples(*shape: int) -> PruningInputs:
    generator = torch.Generator().manual_seed(1)
    two, single = (
        torch.randn(2, *shape, generator=generator),
        torch.randn(1, *shape, generator=generator),
    )
    runs = [lambda module: module(two)]
    return PruningInputs(lambda module: module(two), lambda module: module(single), runs, True)


PICTURE, TOKENS, WAVE = (3, 12, 12), (6, 32), (3, 20)


MAGNITUDE = scorer("magnitude")


def silenced(module: nn.Module, gone: Gone) -> nn.Module:
    """Return the module at full size, with the removed units set to zero in their readers."""
    copied = copy.deepcopy(module)
    with torch.no_grad():
        for name, sides in gone.items():
            layer: Any = copied.get_submodule(name)
            if isinstance(layer, HeadAttention):
                for head in sides["heads"]:
                    layer.out_proj.weight[
                        :, head * layer.head_dim : (head + 1) * layer.head_dim
                    ] = 0
            elif isinstance(layer, LAYERS):
                groups = getattr(layer, "groups", 1)
                ins, outs = layer.weight.shape[1], layer.weight.shape[0] // groups
                for unit in sides.get("in", ()):
                    layer.weight[unit // ins * outs : (unit // ins + 1) * outs, unit % ins] = 0
    return copied


@pytest.mark.parametrize(
    ("factory", "shape"),
    [(Residual, PICTURE), (Transformer, TOKENS), (Dense, PICTURE), (Sound, WAVE)],
)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_what_is_left_computes_what_the_whole_does_with_the_rest_silenced(
    factory: Callable[[], nn.Module], shape: tuple[int, ...], data: st.DataObject
) -> None:
    module, runs = build(factory), samples(*shape)
    replace_attentions(module)
    options = PruneOptions(structured=0.5, most=0.9, round_to=4)
    choices = find_choices(module, options, runs.example, MAGNITUDE)
    assert choices
    kept = []
    for choice in choices:
        units = data.draw(st.integers(choice.least, len(choice.scores)), label=choice.name)
        kept.append(max(choice.least, units // choice.step * choice.step))
    gone, smaller = collect_removed(choices, kept), copy.deepcopy(module)
    shrink(smaller, gone)
    with torch.no_grad():
        expected, outputs = runs.example(silenced(module, gone)), runs.example(smaller)
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=6, deadline=None)
@given(st.floats(0.1, 0.6), st.sampled_from(["macs", "params"]), st.sampled_from([4, 8]))
def test_as_much_goes_as_was_requested(share: float, of: str, step: int) -> None:
    module = build(Residual)
    options = PruneOptions(structured=share, of=of, round_to=step, most=0.9)  # type: ignore[arg-type]
    smaller, removed = prune_structured(module, options, samples(*PICTURE))
    assert abs(1 - removed.left - share) < 0.12, (
        "widths are multiples of eight, and the layers are small"
    )
    assert all(kept % step == 0 for _, kept in removed.layers.values())
    assert all(kept >= 0.1 * before for before, kept in removed.layers.values())
    counted = {
        "macs": lambda module: count(module, samples(*PICTURE).best).total,
        "params": lambda module: sum(weight.numel() for weight in module.parameters()),
    }[of]
    assert counted(smaller) / counted(build(Residual)) == pytest.approx(removed.left, abs=1e-6)


def test_a_transformer_loses_heads_and_neurons() -> None:
    module, runs = build(Transformer), samples(*TOKENS)
    with torch.no_grad():
        expected = runs.example(module)
        replace_attentions(module)
        torch.testing.assert_close(runs.example(module), expected, rtol=1e-5, atol=1e-6)
    smaller, removed = prune_structured(module, PruneOptions(structured=0.4), runs)
    assert {"attention", "inner"} <= removed.layers.keys()
    attention: Any = smaller.get_submodule("attention")
    assert isinstance(attention, HeadAttention)
    assert attention.num_heads == removed.layers["attention"][1] < 4
    assert smaller.get_submodule("head").in_features == 32, "what is normalised together stays"


def test_the_heads_of_least_norm_are_removed() -> None:
    torch.manual_seed(0)
    attention = HeadAttention(nn.MultiheadAttention(32, 4, batch_first=True)).eval()
    with torch.no_grad():
        attention.in_proj_weight.view(3, 4, 8, 32)[:, 2] = 0
        attention.in_proj_bias.view(3, 4, 8)[:, 2] = 0
        x = torch.randn(2, 6, 32)
        expected = attention(x, x, x)[0]
        attention.out_proj.weight.view(32, 4, 8)[:, 2] = 0
        assert int(attention.scores().argmin()) == 2
        attention.keep([0, 1, 3])
        torch.testing.assert_close(attention(x, x, x)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("factory", "shape"), [(Residual, PICTURE), (Transformer, TOKENS)])
def test_a_pruned_module_is_built_again_from_data(
    factory: Callable[[], nn.Module], shape: tuple[int, ...], tmp_path: Any
) -> None:
    runs = samples(*shape)
    smaller, _ = prune_structured(build(factory), PruneOptions(structured=0.4), runs)
    difference(build(factory), smaller).save(tmp_path)
    again = build(factory, seed=9)
    apply(Structure.load(tmp_path), again)
    again.load_state_dict(smaller.state_dict())
    with torch.no_grad():
        assert torch.equal(runs.example(again.eval()), runs.example(smaller))


def test_layers_whose_widths_the_forward_pass_relies_on_stay_and_the_rest_becomes_smaller() -> None:
    smaller, removed = prune_structured(build(Weighed), PruneOptions(structured=0.2), samples(256))
    assert removed.relied == ("first",)
    assert {"second", "third"} >= removed.layers.keys() > set()
    assert samples(256).example(smaller).shape == (2, 3)


class Decides(Resized):
    """Answers with a class, through which no gradient flows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(x).argmax(-1)


def test_outputs_that_gradients_do_not_reach_are_named() -> None:
    with pytest.raises(
        UsageError, match="Decides cannot be traced: gradients reach none of its outputs"
    ):
        prune_structured(build(Decides), PruneOptions(structured=0.2), samples(8))


class ChannelsLast(nn.Module):
    """A linear layer over the last axis of pictures, flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer, self.head = (
            nn.Linear(4, 64),
            nn.Linear(64, 16),
            nn.Linear(3 * 3 * 16, 5),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.outer(torch.relu(self.inner(x)))).flatten(1))


def test_channels_that_are_the_last_axis_are_not_followed_through_a_flatten() -> None:
    _, removed = prune_structured(
        build(ChannelsLast), PruneOptions(structured=0.2), samples(3, 3, 4)
    )
    assert removed.layers.keys() == {"inner"}


def test_the_whole_module_stays_as_it_was() -> None:
    module, runs = build(Residual), samples(*PICTURE)
    before = copy.deepcopy(module.state_dict())
    prune_structured(module, PruneOptions(structured=0.5), runs)
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())


def test_layers_that_are_excluded_or_limited_stay() -> None:
    options = PruneOptions(structured=0.2, exclude=("first",), limits={"point": 0.25}, round_to=4)
    _, removed = prune_structured(build(Residual), options, samples(*PICTURE))
    assert "first" not in removed.layers
    before, kept = removed.layers.get("point", (64, 64))
    assert kept >= 0.75 * before


@pytest.mark.parametrize("importance", ["taylor", "batchnorm"])
def test_other_measures_of_importance(importance: str) -> None:
    module = build(Residual)
    with torch.no_grad():
        module.get_submodule("stem.1").weight[:8] = 1e-3  # type: ignore[index,union-attr]
        module.get_submodule("stem.1").bias[:8] = 0  # type: ignore[index,union-attr]
    options = PruneOptions(structured=0.3, importance=importance)  # type: ignore[arg-type]
    smaller, removed = prune_structured(module, options, samples(*PICTURE))
    assert 0.5 < removed.left < 0.85
    assert all(parameter.grad is None for parameter in smaller.parameters())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"exclude": ("frist",)}, "no layer is named 'frist'; did you mean 'first'"),
        ({"limits": {"pont": 0.1}}, "did you mean 'point'"),
        ({"structured": 0.99}, "can be removed, not 99%"),
        ({"exclude": ("*",)}, "nothing in this model can be removed"),
    ],
)
def test_what_cannot_be_done_is_said(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("?", r"\?").replace("*", r"\*")):
        prune_structured(
            build(Residual), PruneOptions(**{"structured": 0.5, **changes}), samples(*PICTURE)
        )


class Numpy(nn.Module):
    """A forward pass that leaves torch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.layer(x).numpy())


class Scripted(nn.Module):
    """A compiled part that reads what may become narrower."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (
            nn.Linear(8, 64),
            torch.jit.script(nn.Sequential(nn.Linear(64, 64), nn.ReLU())),
        )
        self.head = nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(torch.relu(self.first(x))))


class Scaled(nn.Module):
    """Relies on a width that no parameter shows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(8, 64), torch.linspace(1, 2, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layer(x) * self.scale)


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (
            Numpy,
            r"prune: the dependencies of Numpy cannot be traced: RuntimeError: Can't call numpy\(\)",
        ),
        (
            lambda: nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.ReLU(), Numpy())),
            r"the dependencies of Sequential cannot be traced: RuntimeError: .* \(in 1\.1\)",
        ),
        (
            Resized,
            r"this model can be removed as a whole: .*first stays whole, as it reaches ViewBackward0",
        ),
        (Scripted, r"can be removed as a whole: second is compiled, so it cannot be traced; "),
        (
            lambda: nn.Sequential(nn.Linear(8, 8), Scaled(), nn.Linear(64, 3)),
            r"the smaller model does not run: .*\(in 1\); .* name the layers around it in `exclude`",
        ),
    ],
)
def test_a_model_whose_dependencies_cannot_be_followed_names_its_module(
    factory: Callable[[], nn.Module], words: str
) -> None:
    with pytest.raises(UsageError, match=f"(?s){words}"):
        prune_structured(build(factory), PruneOptions(structured=0.5), samples(8))


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(8, 64), nn.Linear(64, 64), nn.Linear(64, 64)
        self.head = nn.Linear(64, 3)
        self.third.weight = self.second.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.head(torch.relu(self.third(x)))


class Uneven(nn.Module):
    """Depthwise convolutions with several outputs for each input, and the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.free, self.first = nn.Conv2d(3, 64, 1), nn.Conv2d(64, 16, 1)
        self.more = nn.Conv2d(16, 32, 3, groups=16)
        self.less = nn.Conv2d(32, 16, 3, groups=16)
        self.head = nn.Conv2d(16, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(torch.relu(self.free(x))))
        return self.head(torch.relu(self.less(torch.relu(self.more(x)))))


def test_layers_that_share_a_weight_stay() -> None:
    with pytest.raises(
        UsageError, match=r"nothing in this model can be removed.*shares its weight with third"
    ):
        prune_structured(build(Tied), PruneOptions(structured=0.2), samples(8))


def test_groups_of_one_channel_on_one_side_stay() -> None:
    smaller, removed = prune_structured(
        build(Uneven), PruneOptions(structured=0.2), samples(*PICTURE)
    )
    assert removed.layers.keys() == {"free"}
    assert smaller.get_submodule("more").in_channels == 16


class Coarse(nn.Module):
    """One step of the large layer removes too much, all steps of the small one too little."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
        self.small, self.head = nn.Conv2d(32, 64, 1), nn.Linear(64, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.again(torch.relu(self.again(torch.relu(self.first(x))))))
        return self.head(torch.relu(self.small(x)).mean((2, 3)))


def test_rather_too_much_goes_than_too_little() -> None:
    _, removed = prune_structured(build(Coarse), PruneOptions(structured=0.2), samples(*PICTURE))
    assert removed.left < 0.8


def test_layers_whose_weight_is_computed_stay() -> None:
    torch.manual_seed(0)
    layers = [
        nn.Linear(8, 64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.ReLU(),
    ]
    nn.utils.parametrizations.weight_norm(layers[0])
    module = nn.Sequential(*layers, nn.Linear(64, 3)).eval()
    _, removed = prune_structured(module, PruneOptions(structured=0.3), samples(8))
    assert removed.layers
    assert removed.layers.keys() <= {"2", "4"}


class Tells(nn.Module):
    """Returns inner values as well, and a class, and None as a third output."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(8, 64), nn.Linear(64, 64), nn.Linear(64, 64)
        self.norm, self.head = nn.BatchNorm1d(64), nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        inner = self.norm(self.first(x))
        logits = self.head(
            torch.relu(self.third(torch.relu(second := self.second(torch.relu(inner)))))
        )
        return {"logits": logits, "inner": inner, "more": (second, None), "best": logits.argmax(-1)}


def test_what_a_model_returns_from_inside_stays() -> None:
    _, removed = prune_structured(build(Tells), PruneOptions(structured=0.2), samples(8))
    assert removed.layers.keys() == {"third"}


def test_limits_count_from_the_original_whatever_passes_came_before() -> None:
    options, runs = PruneOptions(structured=0.3, most=0.5, round_to=4), samples(*PICTURE)
    whole = count_units(build(Residual))
    once, first = prune_structured(build(Residual), options, runs, whole=whole)
    assert all(kept >= whole[name] / 2 for name, (_, kept) in first.layers.items())
    with pytest.raises(UsageError, match=r"at most .* can be removed"):
        for _ in range(4):
            once, again = prune_structured(once, options, runs, whole=whole)
            assert all(kept >= whole[name] / 2 for name, (_, kept) in again.layers.items())


def test_a_name_that_is_no_layer_says_what_it_is() -> None:
    options = PruneOptions(structured=0.5, exclude=("stem.1",))
    with pytest.raises(
        UsageError, match=r"'stem\.1' is a BatchNorm2d, which pruning does not choose from: name"
    ):
        prune_structured(build(Residual), options, samples(*PICTURE))


@settings(max_examples=10, deadline=None)
@given(st.floats(0.05, 0.7), st.integers(0, 5))
def test_the_selection_saves_what_was_requested_and_keeps_the_limits(
    share: float, seed: int
) -> None:
    module, runs = build(Residual, seed), samples(*PICTURE)
    options = PruneOptions(structured=share, most=0.9, round_to=4)
    choices = find_choices(module, options, runs.example, MAGNITUDE)
    for costs in (mac_costs(module, runs.best), parameter_costs(module)):
        kept = select_units(choices, costs, share)
        assert costs.left(choices, kept) <= (1 - share) * costs.total + 1e-6
        for choice, units in zip(choices, kept, strict=True):
            assert choice.least <= units <= len(choice.scores)
        more = select_units(choices, costs, share / 2)
        assert costs.left(choices, more) >= costs.left(choices, kept)
