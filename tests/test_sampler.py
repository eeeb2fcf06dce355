"""`BalancedBatchSampler` in torch's own DataLoader and in torchdata's."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from fasttail import BalancedBatchSampler
from fasttail.errors import UserError

COUNTS = (60, 25, 11, 4)
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(4), COUNTS))
DATASET = TensorDataset(torch.arange(100), torch.from_numpy(LABELS))


def make(**changes) -> BalancedBatchSampler:
    options = {"labels": LABELS, "sampler": "sqrt", "batch_size": 8, "epochs": 5, **changes}
    return BalancedBatchSampler(**options)


def test_an_epoch_is_lists_of_whole_numbers_and_the_next_iteration_the_next_epoch():
    sampler = make()
    first, second = list(sampler), list(sampler)
    assert len(first) == len(second) == len(sampler) == 12
    assert all(len(indices) == 8 and type(indices[0]) is int for indices in first)
    assert first != second
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert list(make(seed=1)) != first


@pytest.mark.parametrize("world_size", [2, 4])
def test_global_batches_are_the_same_for_any_number_of_ranks(world_size):
    ranks = [make(rank=rank, world_size=world_size) for rank in range(world_size)]
    assert {rank.batch_size for rank in ranks} == {8 // world_size}
    for _ in range(2):
        shares = zip(*ranks, strict=True)
        together = [list(itertools.chain(*share)) for share in shares]
        alone = make()
        alone.set_epoch(ranks[0].epoch - 1)
        assert together == list(alone)


@pytest.mark.parametrize(
    "options", [{}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}], ids=str
)
def test_a_dataloader_gives_the_planned_images_epoch_after_epoch(options):
    loader = DataLoader(DATASET, batch_sampler=make(), **options)
    expected = make()
    for epoch in (0, 1, 3):
        loader.batch_sampler.set_epoch(epoch)
        expected.set_epoch(epoch)
        batches = list(loader)
        assert [ids.tolist() for ids, _ in batches] == list(expected)
        for ids, labels in batches:
            assert (labels.numpy() == LABELS[ids]).all()


@pytest.mark.parametrize("taken", [0, 5, 12])
def test_a_state_goes_on_with_what_was_not_handed_out_on_any_number_of_ranks(taken):
    whole = list(make()) + list(itertools.islice(_after(make(), 1), 3))
    before = make()
    list(itertools.islice(before, taken))
    state = before.state_dict()
    assert (state["epoch"], state["step"]) == (0, taken)
    halves = [make(rank=rank, world_size=2) for rank in range(2)]
    for half in halves:
        half.load_state_dict(state)
        half.set_epoch(0)  # as loops do that set it for every epoch
    rest = [a + b for a, b in zip(*halves, strict=True)]
    rest += [a + b for a, b in itertools.islice(zip(*halves, strict=True), 3)]
    assert rest == whole[taken:]


def _after(sampler: BalancedBatchSampler, epoch: int) -> BalancedBatchSampler:
    sampler.set_epoch(epoch)
    return sampler


def test_a_state_after_the_last_batch_is_the_next_epochs_beginning():
    sampler = make()
    list(sampler)
    state = sampler.state_dict()
    assert (sampler.epoch, state["epoch"], state["step"]) == (1, 1, 0)


def test_with_workers_the_state_is_of_the_batches_that_the_training_has_taken():
    sampler = make()
    loader = DataLoader(DATASET, batch_sampler=sampler, num_workers=2)
    taken = [ids.tolist() for ids, _ in itertools.islice(loader, 4)]
    assert sampler.state_dict()["step"] > 4, "the loader asks ahead"
    state = sampler.state_dict(batches=4)
    again = make()
    again.load_state_dict(state)
    assert taken + list(again) == list(make())


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11 calls it
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("epoch", [0, 1])
def test_torchdatas_loader_resumes_in_the_middle_of_an_epoch(workers, epoch):
    def loader() -> StatefulDataLoader:
        return StatefulDataLoader(DATASET, batch_sampler=make(), num_workers=workers)

    whole = loader()
    expected = [[ids.tolist() for ids, _ in whole] for _ in range(epoch + 2)]
    stopped = loader()
    for _ in range(epoch):
        list(stopped)
    taken = [ids.tolist() for ids, _ in itertools.islice(stopped, 5)]
    resumed = loader()
    resumed.load_state_dict(stopped.state_dict())
    assert taken + [ids.tolist() for ids, _ in resumed] == expected[epoch]
    assert [ids.tolist() for ids, _ in resumed] == expected[epoch + 1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": np.roll(LABELS, 1)}, "the state is of labels"),
        ({"batch_size": 4}, "the state is of batch_size 8, but this is of 4"),
        ({"sampler": "class"}, "the state is of sampler 'sqrt', but this is of 'class'"),
        ({"seed": 7}, "the state is of seed 0, but this is of 7"),
    ],
)
def test_a_state_of_other_data_or_settings_is_refused(changes, said):
    state = make().state_dict()
    with pytest.raises(UserError, match=said):
        make(**changes).load_state_dict(state)


def test_a_process_of_several_that_are_not_connected_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="is not initialised"):
        make()
    assert len(list(make(rank=1, world_size=2))) == 12
    with pytest.raises(UserError, match="give both, or neither"):
        make(rank=1)
