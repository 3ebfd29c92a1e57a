"""Run folders and their HTML page: `publish` writes ``run.json`` and ``report.html``, `render` makes the page anew,
`pictures` gives its figures one by one.
"""

from tfq_pipeline.report.page import pictures, publish, render

__all__ = ["pictures", "publish", "render"]
