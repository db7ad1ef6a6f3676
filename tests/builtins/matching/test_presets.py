"""The presets against TextBrewer's table, in its notation: attention layers counted from 1, hidden ones from 0."""

from __future__ import annotations

import pytest

from kdspec.api.kinds.context import BuildContext
from kdspec.builtins.matching.presets import kdspec_components

TABLE = """
L3_attention_mse      attention  attention_mse       4-1 8-2 12-3
L3_attention_ce       attention  attention_ce        4-1 8-2 12-3
L3_attention_mse_sum  attention  attention_mse_sum   4-1 8-2 12-3
L3_attention_ce_mean  attention  attention_ce_mean   4-1 8-2 12-3
L3_hidden_smmd        hidden     mmd                 0-0 4-1 8-2 12-3
L3n_hidden_mse        hidden     hidden_mse          0-0 4-1 8-2 12-3
L3_hidden_mse         hidden     hidden_mse          0-0 4-1 8-2 12-3
L3l_hidden_mse        hidden     hidden_mse          0-0 4-1 8-2 12-3
L4_attention_mse      attention  attention_mse       3-1 6-2 9-3 12-4
L4_attention_ce       attention  attention_ce        3-1 6-2 9-3 12-4
L4_attention_mse_sum  attention  attention_mse_sum   3-1 6-2 9-3 12-4
L4_attention_ce_mean  attention  attention_ce_mean   3-1 6-2 9-3 12-4
L4_hidden_smmd        hidden     mmd                 0-0 3-1 6-2 9-3 12-4
L4t_hidden_sgram      hidden     gram                0-0 3-1 6-2 9-3 12-4
L4t_hidden_mse        hidden     hidden_mse          0-0 3-1 6-2 9-3 12-4
L6_hidden_smmd        hidden     mmd                 0-0 2-1 4-2 6-3 8-4 10-5 12-6
L6_hidden_mse         hidden     hidden_mse          0-0 2-1 4-2 6-3 8-4 10-5 12-6
small_hidden_smmd     hidden     mmd                 0-0 2-2 4-4 6-6 8-8 10-10 12-12
small_hidden_mse      hidden     hidden_mse          0-0 2-2 4-4 6-6 8-8 10-10 12-12
es_hidden_smmd        hidden     mmd                 2-2 4-4 6-6 8-8 10-10 12-12
es_hidden_mse         hidden     hidden_mse          2-2 4-4 6-6 8-8 10-10 12-12
"""
ROWS = {row.split()[0]: row.split()[1:] for row in TABLE.strip().splitlines()}
PRESETS = {component.name: component for component in kdspec_components()}


def test_the_presets_are_textbrewers():
    assert list(PRESETS) == list(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_a_preset_matches_the_layers_of_the_table(name):
    feature, loss, *pairs = ROWS[name]
    offset = 1 if feature == "attention" else 0
    layers = {int(t) - offset: int(s) - offset for t, s in (pair.split("-") for pair in pairs)}
    assert PRESETS[name]().build(BuildContext()) == [{"feature": feature, "loss": loss, "layers": layers}]


def test_what_a_preset_gives_belongs_to_the_caller():
    preset = PRESETS["L3_hidden_mse"]()
    preset.build(BuildContext())[0]["layers"].clear()
    assert preset.build(BuildContext())[0]["layers"] == {0: 0, 4: 1, 8: 2, 12: 3}
