"""The table of activations: there where they were looked at, and closed in order."""

from engine.render.html import render_html
from tests.engine.measure.test_activations import layer
from tests.engine.render.reports import improved
from tests.engine.render.test_html import Reader


def test_the_page_lists_every_activation() -> None:
    report = improved().model_copy(update={"activations": [layer(dead=3, layer="<first>"), layer(layer="second")]})
    page = render_html(report)
    assert Reader(page).open == []
    assert "2 activations, 3 dead channels of 16" in page
    assert "&lt;first&gt;" in page and "<first>" not in page


def test_where_none_were_looked_at_there_is_no_section() -> None:
    assert 'id="activations"' not in render_html(improved())
