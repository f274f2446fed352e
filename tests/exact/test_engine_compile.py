"""The packed form under torch.compile: the same numbers, and no new graphs for other forests."""

import pytest
import torch

from engine_support import gradients, relative_difference, shapes, tiny, twin
from lastresort.engine.logp import target_logps

pytestmark = pytest.mark.usefixtures("compiles")


@pytest.mark.slow
def test_a_compiled_model_gives_the_same_and_is_not_compiled_for_every_forest():
    torch._dynamo.reset()
    model = tiny(num_hidden_layers=1)
    other = twin(model)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    model.model.compile(backend=backend)
    for name in ("several levels", "nothing shared"):
        rows = shapes()[name]
        expected, found = target_logps(other, rows), target_logps(model, rows)
        assert found.path == "packed", found.reason
        torch.testing.assert_close(found.per_token, expected.per_token, atol=1e-9, rtol=1e-9)
        assert relative_difference(gradients(model, found.per_token), gradients(other, expected.per_token)) < 1e-9
    assert graphs
    after_two_lengths = len(graphs)  # the second one makes the length of the text a variable
    for name in ("identical rows", "one token completions", "several turns"):
        assert target_logps(model, shapes()[name]).path == "packed"
    assert len(graphs) == after_two_lengths
    torch._dynamo.reset()
