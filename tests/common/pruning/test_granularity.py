import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.layout import Layout, layout_of
from common.plan import ModelPlan
from common.pruning.granularity import GRANULARITIES, blocks, neurons, single_weights

MODEL = ModelPlan(hidden=(4, 3))
LAYOUT = layout_of(MODEL, 5)
PROTECTED = LAYOUT.protected(biases=False)


def spans(layout: Layout) -> dict[str, slice]:
    return {entry.name: entry.span for entry in layout.entries}


def test_single_weights_are_all_but_the_protected() -> None:
    units = single_weights(LAYOUT, PROTECTED, 4)
    assert (units.count, units.fixed) == (20 + 12 + 3, 4 + 3 + 1 + 5)
    assert units.kept(0.5) == round(LAYOUT.size / 2) - units.fixed
    assert (units.mask(np.zeros(units.count, np.bool_)) == PROTECTED).all()
    assert units.shapes[0].tolist() == [4, 5]


@pytest.mark.parametrize("gone", [0, 3, 4, 6])
def test_a_neuron_goes_with_bias_inputs_and_outputs(gone: int) -> None:
    units, where = neurons(LAYOUT, PROTECTED, 4), spans(LAYOUT)
    alive = np.ones(7, np.bool_)
    alive[gone] = False
    mask = units.mask(alive)
    parts = {name: part.copy() for name, part in LAYOUT.split(mask).items()}
    layer, place = divmod(gone, 4)
    assert not parts[f"hidden.{layer}.weight"][place].any()
    assert not parts[f"hidden.{layer}.bias"][place]
    following = "hidden.1.weight" if layer == 0 else "output.weight"
    assert not parts[following][:, place].any()
    cut = parts[f"hidden.{layer}.weight"].shape[1] + 1 + parts[following].shape[0]
    assert (~mask).sum() == cut
    assert mask[where["linear.weight"]].all()
    assert mask[where["output.bias"]].all()
    assert (units.alive(mask) == alive).all()


def test_sparsity_of_neurons_is_their_share() -> None:
    units = neurons(LAYOUT, PROTECTED, 4)
    assert (units.count, units.kept(0.75), units.kept(0.99)) == (7, 2, 0)


@given(st.lists(st.booleans(), min_size=7, max_size=7))
def test_living_neurons_are_read_back_from_their_mask(alive: list[bool]) -> None:
    units = neurons(LAYOUT, PROTECTED, 4)
    kept = np.array(alive)
    assert (units.alive(units.mask(kept)) == kept).all()


def test_blocks_lie_along_the_inputs_and_end_with_their_row() -> None:
    units, where = blocks(LAYOUT, PROTECTED, 4), spans(LAYOUT)
    first = units.group[units.owners[0, where["hidden.0.weight"]]].reshape(4, 5)
    assert (first[:, :4] == first[:, :1]).all()
    assert len(set(first[:, 0]) | set(first[:, 4])) == 8
    sizes = np.bincount(units.group)
    assert sorted(sizes.tolist()) == sorted([4, 1] * 4 + [4] * 3 + [3])


@pytest.mark.parametrize(("sparsity", "whole", "rest"), [(0.5, 2, 2), (0.75, 1, 1), (0.0, 4, 3)])
def test_each_block_keeps_its_share_rounded_up(sparsity: float, whole: int, rest: int) -> None:
    units = blocks(LAYOUT, PROTECTED, 4)
    quotas = dict(zip(np.bincount(units.group), units.quotas(sparsity), strict=True))
    assert (quotas[4], quotas[3]) == (whole, rest)


def test_granularities_are_found_by_name() -> None:
    assert {"weight", "neuron", "block"} <= set(GRANULARITIES.names)
    with pytest.raises(ValueError, match="unknown pruning granularity 'filter'; known: "):
        GRANULARITIES.require("filter")


@pytest.mark.parametrize("name", GRANULARITIES.names)
@pytest.mark.parametrize("kind", ["wide_and_deep", "mlp"])
def test_all_alive_is_the_whole_model(kind: str, name: str) -> None:
    layout = layout_of(ModelPlan.model_validate({"kind": kind, "hidden": (6, 5, 2)}), 7)
    units = GRANULARITIES.require(name)(layout, layout.protected(biases=False), 4)
    everything = np.ones(layout.size, np.bool_)
    assert units.alive(everything).all()
    assert units.mask(units.alive(everything)).all()
