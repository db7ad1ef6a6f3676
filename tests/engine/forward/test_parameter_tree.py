"""The tree of a model's parameters: what counts, what is shared, and that no weights are read."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification

from kdspec.diagnostics.fault import Fault
from kdspec.engine.forward.parameter_tree import from_folder, tree
from kdspec.render import module_tree

SIZES = {
    "num_hidden_layers": 2,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 20,
}


def find(part, path):
    for name in path.split("."):
        part = next(child for child in part.parts if child.name == name)
    return part


def test_parameters_and_buffers_count_but_apart():
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    root = tree(module)
    assert (root.parameters, root.buffers) == (8 + 4, 2 + 2 + 1)
    # num_batches_tracked is an int64.
    assert root.bytes == 4 * (12 + 4) + 8
    assert root.count == sum(tensor.numel() for tensor in module.state_dict().values())


def test_a_tensor_that_is_used_twice_counts_once():
    module = nn.ModuleDict({"embedding": nn.Embedding(5, 3), "output": nn.Linear(3, 5, bias=False)})
    module["output"].weight = module["embedding"].weight
    root = tree(module)
    assert root.parameters == 15
    assert find(root, "output.weight").shared == "embedding.weight"
    assert find(root, "output").count == 0


def test_tensors_that_share_their_storage_count_once():
    module = nn.ModuleDict({"one": nn.Linear(3, 5, bias=False), "two": nn.Linear(3, 5, bias=False)})
    module["two"].weight = nn.Parameter(module["one"].weight.data)
    assert tree(module).parameters == 15


def test_different_parts_of_one_storage_all_count():
    both = torch.zeros(4, 3)
    module = nn.Module()
    module.first, module.second = nn.Parameter(both[:2]), nn.Parameter(both[2:])
    assert tree(module).parameters == 12


def test_modules_without_tensors_are_left_out():
    assert [part.name for part in tree(nn.Sequential(nn.Dropout(), nn.Linear(1, 1), nn.ReLU())).parts] == ["1"]


def test_a_folder_that_has_only_a_configuration_is_enough(tmp_path):
    config = AutoConfig.for_model("bert", **SIZES)
    config.architectures = ["BertForMaskedLM"]
    config.save_pretrained(tmp_path)
    module = from_folder(str(tmp_path))
    real = AutoModelForMaskedLM.from_config(config)
    assert {tensor.device.type for tensor in module.parameters()} == {"meta"}
    root = tree(module)
    assert root.parameters == sum(tensor.numel() for tensor in real.parameters())
    assert find(root, "cls.predictions.decoder.weight").shared == "bert.embeddings.word_embeddings.weight"


def test_memory_follows_the_type_of_the_weights(tmp_path):
    config = AutoConfig.for_model("bert", **SIZES)
    AutoModelForSequenceClassification.from_config(config, dtype=torch.bfloat16).save_pretrained(tmp_path)
    root = tree(from_folder(str(tmp_path)))
    assert root.bytes == 2 * root.parameters + 8 * root.buffers


def test_a_folder_without_a_configuration_is_a_fault(tmp_path):
    with pytest.raises(Fault, match="cannot be loaded"):
        from_folder(str(tmp_path))


def test_the_table_shows_the_levels_that_are_asked_for():
    module = nn.ModuleDict({"a": nn.ModuleDict({"b": nn.Linear(30, 50)}), "c": nn.BatchNorm1d(1)})
    text = module_tree.table(tree(module, "net"), 1).plain.splitlines()
    assert [line.split() for line in text] == [
        ["parameters", "share", "memory"],
        ["net", "1,555", "100.0%", "0.0", "MB"],
        ["a", "1,550", "99.7%", "0.0", "MB"],
        ["c", "5", "0.3%", "0.0", "MB"],
    ]
    assert "running_mean" not in "".join(text)
    whole = module_tree.table(tree(module, "net"), 5).plain
    assert whole.count("buffer\n") == 3
    assert "1,552 parameters and 3 values in buffers" in module_tree.caption(tree(module))


def test_the_data_has_the_place_of_a_shared_tensor():
    module = nn.ModuleDict({"one": nn.Linear(3, 5, bias=False)})
    module["two"] = module["one"]
    plain = module_tree.data(tree(module))
    assert plain["parts"][1]["parts"] == [
        {"name": "weight", "parameters": 0, "buffers": 0, "bytes": 0, "shared_with": "one.weight"}
    ]
    assert "parts" not in module_tree.data(tree(module), depth=0)
