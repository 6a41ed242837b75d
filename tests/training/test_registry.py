from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from helpers.plans import Plan, build_network
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_transformers.training import registry
from nnunet_transformers.training.trainers import find_trainer, trainer_names

DOCS = Path(__file__).parents[2] / "docs"

every_entry = pytest.mark.parametrize("entry", registry.registry(), ids=lambda e: e.trainer)


def test_every_trainer_of_the_package_is_registered_once():
    assert [entry.trainer for entry in registry.registry()] == trainer_names()


@every_entry
def test_an_entry_is_what_nnunet_finds_by_that_name(entry):
    trainer = find_trainer(entry.trainer)
    assert issubclass(trainer, nnUNetTrainer)
    assert (trainer.architecture, trainer.recipe) == (entry.network, entry.recipe)


@every_entry
def test_every_network_names_its_paper_and_can_be_written_as_json(entry):
    assert entry.paper.authors
    assert entry.paper.title in " ".join(sys.modules[entry.network.__module__].__doc__.split())
    json.dumps(entry.as_dict())


@every_entry
def test_every_network_has_a_card_that_names_its_trainer_and_paper(entry):
    card = (DOCS / entry.card).read_text()
    assert f"`{entry.trainer}`" in card
    assert entry.paper.title in " ".join(card.split())


@every_entry
def test_a_card_says_how_much_the_network_keeps_for_the_backward_pass(entry):
    plan = Plan("six_stages_3d", (128, 128, 128), (1, 1, 1), ((1, 1, 1), *((2, 2, 2),) * 5))
    configuration = plan.configuration()
    configuration["architecture"]["arch_kwargs"]["features_per_stage"] = [32, 64, 128, 256, 320, 320]
    with torch.device("meta"):
        network = build_network(entry.network, configuration, 1, 2, deep_supervision=True)
    stated = re.search(r"(\d+) M\s+elements", (DOCS / entry.card).read_text())
    assert int(stated[1]) * 1e6 == pytest.approx(network.compute_conv_feature_map_size(plan.patch_size), rel=0.005)


def test_the_docs_table_is_the_registrys():
    # To mend it: nnunet-transformers list --markdown > docs/networks.md
    assert (DOCS / "networks.md").read_text() == registry.as_markdown()


@pytest.mark.parametrize("peer", registry.PEERS, ids=lambda p: f"{p.trainer}, {p.plans}")
def test_every_peer_is_a_trainer_of_nnunets(peer):
    assert find_trainer(peer.trainer).__module__.startswith("nnunetv2.")
